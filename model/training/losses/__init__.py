"""What the networks are trained towards, one loss a file, and the penalties on their gradients."""
