"""What is wrong on this machine, or with a checkpoint: each file looks at one thing, and its rules are pure."""
