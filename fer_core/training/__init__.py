"""Train networks in epochs: the epoch loop, its checkpoint, stopping rules, history and class weights."""
