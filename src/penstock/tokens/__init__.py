"""How many tokens: counted with the model's own vocabulary where there is one, estimated with a band where not."""
