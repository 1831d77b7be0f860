"""The model's side: requests written, replies read, and who may ask when."""
