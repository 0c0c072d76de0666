"""OpenAI's dialect: /v1/images/generations, edits and variations over the same queue."""
