"""What counts as a private name or text, at the exact length and form from which it does."""

import pytest

from reports.privacy import KINDS, Privacy, privacy_of

OWN = {"hosts": "gpu7", "users": "ann"}


@pytest.fixture
def machine(monkeypatch):
    """Return a function that names the machine and its user."""

    def named(host, user):
        monkeypatch.setattr("socket.gethostname", lambda: host)
        monkeypatch.setattr("getpass.getuser", lambda: user)
        return privacy_of()

    return named


@pytest.mark.parametrize(
    ("user", "host", "text"),
    [
        ("ann", "gpu7", "[user removed] on [host removed]"),
        ("an", "g7", "an on g7"),  # two letters would be cut out of ordinary words
        ("eve", "n01", "[user removed] on [host removed]"),
        ("root", "LOCALHOST", "root on LOCALHOST"),
        ("Ubuntu", "main", "Ubuntu on main"),
    ],
)
def test_own_names_are_removed_from_three_letters_on_unless_they_are_common(
    machine, user, host, text
):
    assert machine(host, user).text(f"{user} on {host}") == text


def test_a_machine_without_names_has_nothing_to_remove(machine, monkeypatch):
    def nameless():
        raise KeyError("no name for uid 1000")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert privacy_of().users == frozenset()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ann", "[user removed]"),
        ("ANN!", "[user removed]!"),
        ("run_ann_2", "run_[user removed]_2"),
        ("annotate", "annotate"),
        ("joann", "joann"),
        ("ann3", "ann3"),
    ],
)
def test_a_name_is_removed_only_where_it_stands_alone(text, left):
    assert Privacy(users=frozenset({"ann"})).text(text) == left


def test_of_two_names_the_longer_goes_first():
    privacy = Privacy(hosts=frozenset({"node", "node-gpu"}))
    assert privacy.text("node-gpu and node") == "[host removed] and [host removed]"


@pytest.mark.parametrize(
    ("text", "betrayed", "kind"),
    [
        ("/home/ann/run.py", "ann", "users"),
        ("C:\\Users\\ann\\x", "ann", "users"),
        ("/Users/ann/x", "ann", "users"),
        ("/scratch/ann/x", "ann", "users"),
        ("USER=ann", "ann", "users"),
        ("LOGNAME=ann", "ann", "users"),
        ("HOSTNAME=gpu7", "gpu7", "hosts"),
        ("x@gpu7", "gpu7", "hosts"),
        ("token=abcdef", "abcdef", "values"),
        ("api_key: abcdefg", "abcdefg", "values"),
    ],
)
def test_a_form_betrays_the_name_in_it(text, betrayed, kind):
    learned = Privacy().learned([text])
    assert getattr(learned, kind) == {betrayed}
    assert betrayed not in learned.text(f"see {betrayed} there")


def test_a_password_of_five_letters_is_no_word_to_look_for():
    assert Privacy().learned(["token=abcde"]).values == frozenset()


def test_what_was_known_before_stays_known():
    known = Privacy(hosts=frozenset({"gpu7"}), users=frozenset({"ann"}), values=frozenset({"s3cr"}))
    learned = known.learned(["/home/bob/x", "HOSTNAME=gpu8", "password=hunter22"])
    assert learned.hosts == {"gpu7", "gpu8"}
    assert learned.users == {"ann", "bob"}
    assert learned.values == {"s3cr", "hunter22"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_stays_when_it_alone_is_asked_for(kind):
    texts = {
        "hosts": "gpu7",
        "users": "ann",
        "paths": "/opt/x/y",
        "commands": "python train.py",
        "environment": "CUDA_PATH=x",
    }
    privacy = Privacy(
        included=frozenset({kind}), hosts=frozenset({"gpu7"}), users=frozenset({"ann"})
    )
    for other, text in texts.items():
        assert (privacy.text(f"({text})") == f"({text})") is (other == kind), other


@pytest.mark.parametrize(
    "text",
    [
        *("10.0.0.1", "255.255.255.255", "fe80:0:0:0:1:2:3:4", "ip-10-0-0-1", "a.example.com"),
        *("db.internal", "n1.cluster"),
    ],
)
def test_addresses_are_hosts(text):
    assert Privacy().text(f"at {text}!") == "at [host removed]!"


@pytest.mark.parametrize("text", ["256.1.1.1", "1.2.3", "1.2.3.4.5", "torch.nn", "3.14 GB/s"])
def test_what_only_resembles_an_address_stays(text):
    assert Privacy().text(f"at {text}") == f"at {text}"


@pytest.mark.parametrize(
    ("included", "sentence"),
    [
        (KINDS, "Nothing was removed, as requested."),
        (
            ("hosts",),
            "Removed wherever they could be recognized: user names, paths, command lines and "
            "environment variables. Host names were kept, as requested.",
        ),
        (
            ("hosts", "users", "paths", "commands"),
            "Removed wherever they could be recognized: environment variables. Host names, user "
            "names, paths and command lines were kept, as requested.",
        ),
        (
            (),
            "Removed wherever they could be recognized: host names, user names, paths, command "
            "lines and environment variables.",
        ),
    ],
)
def test_the_report_says_what_was_removed_and_what_was_kept(included, sentence):
    said = Privacy(included=frozenset(included)).sentence
    assert said.startswith(sentence)
    assert said.endswith("check them before you share this report.") is (included != KINDS)
