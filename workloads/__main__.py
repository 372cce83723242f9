"""Lists the pairs: ``python -m workloads``."""

from workloads.harness import pairs


def main() -> None:
    """Print each pair, its cause and its one-line description."""
    all_pairs = pairs()
    width = max(len(pair.name) for pair in all_pairs)
    for pair in all_pairs:
        print(f"{pair.name:<{width}}  {pair.cause:<10}  {pair.title}")
    print("\nRun one with: python -m workloads.launch_baseline --help")


if __name__ == "__main__":
    main()
