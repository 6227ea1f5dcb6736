"""The models. Each maps features [batch, day, 3, H, W], scaled, to a soil-moisture map [batch, H, W], scaled."""
