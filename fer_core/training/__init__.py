"""Features and labels -> a fitted head: one epoch function, stopping, imbalance, a record of every epoch."""
