"""The forward pass in Keras, which scores many rows at once."""
