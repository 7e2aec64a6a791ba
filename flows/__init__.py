"""What happens, in which order; and the command line."""
