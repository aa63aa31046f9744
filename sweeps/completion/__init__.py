"""Shell completion: the command that prints the script, what it knows of every command, and the answer to a TAB."""
