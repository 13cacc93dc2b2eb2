"""TensorFlow, Keras and Flax saves: one reader per format, one set of naming rules, one writer."""
