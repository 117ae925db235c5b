"""One module for each creps command, whose ``main(arguments)`` parses its options and runs it."""
