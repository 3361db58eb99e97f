"""This process: its threads, its cores, its log and what libraries print."""
