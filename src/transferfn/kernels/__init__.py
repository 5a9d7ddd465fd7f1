"""Native loops over samples, and the differentiable operators around them."""
