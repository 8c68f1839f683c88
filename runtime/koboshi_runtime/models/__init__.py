"""The models of a home: where files come from, what is read from them, and which one is live."""
