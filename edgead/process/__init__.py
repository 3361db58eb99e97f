"""Process that runs edgead: its threads, cores and memory, its log, and the output of libraries."""
