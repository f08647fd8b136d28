"""Writes the trained network as a GGUF file for llama.cpp, vocabulary and chat form included.

The chat form takes one user message: start piece (llama.cpp adds it), the message as it is, the
ask piece; the next token is the answer.
"""

from pathlib import Path
from typing import cast

import gguf
import numpy
import torch

from script.model.labels import ANSWERS, ASK
from script.model.network import Block, Network
from script.model.vocabulary import Vocabulary, special_texts, unreachable

TEMPLATE = "{{ messages[-1]['content'] }}" + ASK
CONTROL, NORMAL, BYTE, UNUSED, UNKNOWN = (
    gguf.TokenType.CONTROL,
    gguf.TokenType.NORMAL,
    gguf.TokenType.BYTE,
    gguf.TokenType.UNUSED,
    gguf.TokenType.UNKNOWN,
)


def write(network: Network, vocabulary: Vocabulary, path: Path, kind: str = "f16") -> None:
    shape = network.shape
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("rspamd-llm builtin")
    writer.add_description("judges one mail: none, phishing, scam, malware or marketing")
    writer.add_license("GPL-3.0-or-later")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.theta)
    writer.add_vocab_size(shape.vocabulary)
    _add_vocabulary(writer, vocabulary)
    for name, tensor in _tensors(network):
        plain = kind == "f32" or tensor.ndim == 1
        if plain:
            writer.add_tensor(name, tensor)
        elif kind == "f16":
            writer.add_tensor(name, tensor.astype(numpy.float16))
        else:
            packed = gguf.quants.quantize(tensor, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    processor, special = vocabulary.processor, special_texts()
    texts: list[str] = []
    kinds: list[int] = []
    for piece in range(vocabulary.learnt):
        texts.append(special.get(piece, processor.id_to_piece(piece)))
        kinds.append(
            UNKNOWN
            if processor.is_unknown(piece)
            else CONTROL
            if processor.is_control(piece)
            else BYTE
            if processor.is_byte(piece)
            else NORMAL
        )
    if not unreachable(ANSWERS, texts):
        raise ValueError("an answer can be merged from a mail's text: choose other answer pieces")
    scores = [processor.get_score(piece) for piece in range(vocabulary.learnt)]
    rest = vocabulary.size - vocabulary.learnt - 1 - len(ANSWERS)
    texts += [ASK, *ANSWERS, *(f"\x06{number}" for number in range(rest))]
    kinds += [CONTROL, *[NORMAL] * len(ANSWERS), *[UNUSED] * rest]
    scores += [-1e4] * (vocabulary.size - vocabulary.learnt)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)


def _tensors(network: Network) -> list[tuple[str, numpy.ndarray]]:
    def plain(weight: torch.Tensor) -> numpy.ndarray:
        return weight.detach().to(torch.float32).contiguous().numpy()

    named = [("token_embd.weight", plain(network.token_embd.weight))]
    for number, module in enumerate(network.blocks):
        block = cast(Block, module)
        q, k, v = block.attn_qkv.weight.chunk(3)
        gate, up = block.ffn_gate_up.weight.chunk(2)
        parts = {
            "attn_norm": block.attn_norm.weight,
            "attn_q": q,
            "attn_k": k,
            "attn_v": v,
            "attn_output": block.attn_output.weight,
            "ffn_norm": block.ffn_norm.weight,
            "ffn_gate": gate,
            "ffn_up": up,
            "ffn_down": block.ffn_down.weight,
        }
        named += [(f"blk.{number}.{name}.weight", plain(part)) for name, part in parts.items()]
    return [*named, ("output_norm.weight", plain(network.output_norm.weight))]
