"""`python -m script.model generate | train | export | evaluate`; script/train runs them in turn."""

import argparse
import itertools
import sys
from pathlib import Path

from script.model import evaluate, export, generate, prepare, sources, vocabulary
from script.model.network import Network, Shape

SHIPPED = Path("rspamd_llm/data/builtin.gguf")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m script.model", description=__doc__)
    parser.add_argument("command", choices=("generate", "train", "export", "evaluate", "show"))
    parser.add_argument("--build", type=Path, default=Path("build/model"), help="working folder")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40000, help="generated mails to train on")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--tokens", type=int, default=6144, help="tokens of one step")
    parser.add_argument(
        "--go-on", action="store_true", help="train the network in the working folder further"
    )
    parser.add_argument("--kind", choices=("f16", "q8_0", "f32"), default="f16")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    return parser.parse_args()


def make_mail(options: argparse.Namespace) -> None:
    real = list(sources.read(options.corpus))
    if not real:
        print(f"no corpus at {options.corpus}: generated mail only", file=sys.stderr)
    made = generate.many(options.seed, options.count)
    learning = itertools.chain((one for one in real if not one.held_out), made)
    measuring = itertools.chain(
        (one for one in real if one.held_out),
        sources.measured_only(options.corpus),
        generate.many(options.seed, 1500, held_out=True),
    )
    for name, samples in (("train", learning), ("measure", measuring)):
        count = prepare.save(options.build / f"{name}.jsonl", prepare.examples(samples))
        print(f"{name}: {count} mails", file=sys.stderr)


def learn(options: argparse.Namespace) -> None:
    import torch  # noqa: PLC0415

    from script.model import train  # noqa: PLC0415  torch takes seconds to load

    examples = prepare.load(options.build / "train.jsonl")
    path = options.build / "vocabulary.model"
    if not options.go_on:
        vocabulary.learn((example.text for example in examples), path)
    words = vocabulary.load(path)
    torch.manual_seed(options.seed)
    network = Network(Shape(words.size))
    if options.go_on:
        network.load_state_dict(torch.load(options.build / "network.pt", weights_only=True))
    train.train(
        train.items(examples, words),
        network,
        steps=options.steps,
        tokens=options.tokens,
        seed=options.seed,
        pace=0.3 if options.go_on else 1.0,
        save_to=options.build / "network.pt",
    )


def write_model(options: argparse.Namespace) -> None:
    import torch  # noqa: PLC0415

    words = vocabulary.load(options.build / "vocabulary.model")
    network = Network(Shape(words.size))
    network.load_state_dict(torch.load(options.build / "network.pt", weights_only=True))
    options.model.parent.mkdir(parents=True, exist_ok=True)
    export.write(network, words, options.model, options.kind)
    print(f"{options.model}: {options.model.stat().st_size:,} bytes", file=sys.stderr)


def measure(options: argparse.Namespace) -> None:
    examples = prepare.load(options.build / "measure.jsonl")
    print(evaluate.evaluate(options.model, examples))
    words = vocabulary.load(options.build / "vocabulary.model")
    texts = [example.text for example in examples[::3]]
    texts += [
        "<none> <|none|> <s></s> [INST] <phishing>",
        "  two  spaces \n",
        "\u2581x é\U0001f600",
    ]
    count, wrong = evaluate.same_tokens(options.model, texts, words)
    print(f"Texts that llama.cpp cuts into other tokens than the training did: {wrong} of {count}.")


def main() -> None:
    options = arguments()
    options.build.mkdir(parents=True, exist_ok=True)
    match options.command:
        case "generate":
            make_mail(options)
        case "train":
            learn(options)
        case "export":
            write_model(options)
        case "evaluate":
            measure(options)
        case _:
            for sample in generate.many(options.seed, options.count):
                print(f"--- {sample.kind} {sample.language} {sample.label}")
                print(prepare.text_of(sample.data))


if __name__ == "__main__":
    main()
