"""`koboshi serve`: the API of OpenAI's clients, runs of the project's agent, labels and approvals, over HTTP."""
