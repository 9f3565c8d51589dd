"""What a worker of a cluster does to servers: takes messages, and writes down what came of them."""
