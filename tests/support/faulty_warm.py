"""What a command does first and always alike, done once in the server that forks commands.

No kernel of torch's is used: a fork of a process with threads would have none of them.
"""

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from star.config import load

load(None, [])
get_checkpoint_conversion_mapping("llama")
