"""The counts of many processes: written at their exit, read and summed, told in words."""
