"""The model worker: the process that holds one GGUF, schedules its sequences and samples under constraint."""
