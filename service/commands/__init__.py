"""One module for each creps command: ``main(arguments)`` parses and runs it."""
