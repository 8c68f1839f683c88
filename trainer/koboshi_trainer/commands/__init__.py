"""The trainer's verbs; each module is imported when its verb is used."""
