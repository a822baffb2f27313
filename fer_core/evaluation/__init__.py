"""Scores and labels -> numbers (`metrics`, `calibration`), pictures of them (`plots`), a page to read (`report`)."""
