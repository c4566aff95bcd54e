"""What a model is trained on: pictures, captions, views, batches."""
