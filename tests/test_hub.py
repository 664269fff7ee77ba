"""Pulling models from a Hub on the loopback with the real client."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import documents, run
from support.hub import Hub, preset_hub
from support.processes import ROOT, Beside, files_no_larger_than

from v2l.config import PRESETS
from v2l.errors import ModelError, UsageError
from v2l.store import hub as client
from v2l.store import resolve as checkpoints
from v2l.store.hub import hub_cache, snapshot
from v2l.store.resolve import available, find_base, find_hypernetwork, pull
from v2l.store.sizes import to_fetch
from v2l.wording import size_text

P500M = PRESETS["500m"]
NEW, OLD = P500M.checkpoints
NEEDED = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
          "chat_template.json", "preprocessor_config.json", "processor_config.json", "model.safetensors"}


@pytest.fixture
def hub(reference: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serves the reference model under the names of the 500m preset."""
    with preset_hub() as hub:
        unneeded = "pytorch_model.bin", "onnx/model.onnx", "README.md", "model.gguf"
        hub.repos[P500M.base] |= dict.fromkeys(unneeded, b"never")
        hub.repos[NEW]["other.pt"] = b"never"
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        yield hub


def partials() -> list[Path]:
    return list(client.hub_cache().rglob("*.incomplete"))


def test_first_download_fetches_what_is_needed_and_the_second_run_asks_nothing(
        hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[str, int, int | None]] = []
    found = find_base("500m", progress=lambda *a: seen.append(a))
    released = find_hypernetwork("500m", progress=lambda *a: seen.append(a))

    assert found.name == P500M.base and found.revision == hub.commit(P500M.base) and found.resolution == 384
    assert {file.name for file in found.folder.iterdir()} == NEEDED
    assert set(hub.fetched()) == NEEDED | {P500M.checkpoint_file}
    assert released.name == f"{NEW}:{P500M.checkpoint_file}" and released.config.num_layers == 5
    size = len(hub.repos[P500M.base]["model.safetensors"])
    assert [s for s in seen if s[0] == "model.safetensors"][-1] == ("model.safetensors", size, size)
    assert capfd.readouterr() == ("", "")  # the command line is the only room that prints

    hub.requests.clear()
    assert find_base("500m") == found and find_hypernetwork("500m") == released
    assert find_base(P500M.base) == found and find_hypernetwork(P500M.base) == released
    assert hub.requests == []
    assert next(a for a in available() if a.name == "500m").ready


def test_a_lost_connection_is_taken_up_where_it_was(hub: Hub) -> None:
    hub.cut["model.safetensors"] = 300_000
    find_base("500m")
    assert hub.ranges_asked("model.safetensors") == [None, "bytes=300000-"]


def test_an_interrupted_download_continues_in_a_later_run(hub: Hub) -> None:
    hub.cut["model.safetensors"], hub.down_after_cut = 500_000, True
    with pytest.raises(ModelError, match=r"503.*continues where it stopped"):
        find_base("500m")
    assert [file.stat().st_size for file in partials()] == [500_000]
    assert snapshot(client.Repo(P500M.base)) is None  # nothing unfinished counts as being there

    hub.status.clear()
    hub.requests.clear()
    find_base("500m")
    assert hub.ranges_asked("model.safetensors") == ["bytes=500000-"]
    assert partials() == []


def test_a_killed_process_loses_nothing(hub: Hub, home: Path) -> None:
    hub.stall[P500M.checkpoint_file] = 1_000_000
    run = "from v2l.store.resolve import find_hypernetwork; find_hypernetwork('500m')"
    child = subprocess.Popen([sys.executable, "-c", run], env=os.environ | {"PYTHONPATH": ROOT})
    pause, end = threading.Event(), time.monotonic() + 60
    while sum(file.stat().st_size for file in partials()) < 900_000 and time.monotonic() < end:
        pause.wait(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()

    hub.requests.clear()
    assert find_hypernetwork("500m").config.num_layers == 5
    [asked] = hub.ranges_asked(P500M.checkpoint_file)
    assert asked is not None and int(asked.removeprefix("bytes=").removesuffix("-")) >= 900_000


def test_a_server_without_ranges_begins_anew(hub: Hub) -> None:
    hub.ranges, hub.cut[P500M.checkpoint_file] = False, 1_000_000
    assert find_hypernetwork("500m").config.num_layers == 5


def test_wrong_sizes_and_contents_are_thrown_away(hub: Hub) -> None:
    right = hub.repos[NEW][P500M.checkpoint_file]
    for wrong, how in ((right[:-10], "size"), (right + b"more", "size"), (bytes(len(right)), "content")):
        hub.body[P500M.checkpoint_file] = wrong
        with pytest.raises(ModelError, match=f"another {how}"):
            find_hypernetwork("500m")
        assert partials() == []
    hub.body.clear()
    assert find_hypernetwork("500m").config.num_layers == 5


def test_old_name_where_the_new_one_is_missing(hub: Hub) -> None:
    hub.repos[OLD] = hub.repos.pop(NEW)
    found = find_hypernetwork("500m")
    assert found.name == f"{NEW}:{P500M.checkpoint_file}"  # one model, one name
    assert find_hypernetwork("500m", offline=True) == found


def test_old_name_where_the_new_one_lacks_the_file(hub: Hub) -> None:
    hub.repos[OLD], hub.repos[NEW] = hub.repos[NEW], {"README.md": b""}
    assert find_hypernetwork("500m").config.num_layers == 5


def test_a_renamed_repository_redirects(hub: Hub) -> None:
    hub.renamed["someone/old"] = P500M.base
    hub.renamed["someone/hyper"] = NEW
    assert find_base("someone/old").revision == hub.commit(P500M.base)
    assert find_hypernetwork("x", f"someone/hyper:{P500M.checkpoint_file}").config.rank == 4


def test_missing_things_are_named(hub: Hub) -> None:
    del hub.repos[NEW]
    with pytest.raises(ModelError, match=f"{NEW}.*private"):
        find_hypernetwork("500m")
    with pytest.raises(ModelError, match="There is no repository nobody/nothing at http://"):
        find_base("nobody/nothing")
    with pytest.raises(ModelError, match="no revision v9"):
        find_base(f"{P500M.base}@v9")
    with pytest.raises(ModelError, match=r"nothing\.pt does not exist"):
        find_hypernetwork("x", f"{P500M.base}:nothing.pt")
    with pytest.raises(UsageError, match=r"500m, 2\.2b.*no folder.*org/name"):
        find_base("nonsense")
    with pytest.raises(ModelError, match=r"no file some/where\.pt"):
        find_hypernetwork("500m", "some/where.pt")
    assert partials() == []


def test_a_gated_repository_says_what_to_do(hub: Hub) -> None:
    hub.gated |= {P500M.base, NEW}
    for find in (find_base, find_hypernetwork):
        with pytest.raises(ModelError, match=r"is gated: accept its terms at http.*hf auth login"):
            find("500m")


def test_a_token_goes_to_the_hub_and_not_to_its_storage(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    find_hypernetwork("500m")
    sent = {(r.path.startswith("/cdn/"), r.authorization) for r in hub.requests}
    assert sent == {(False, "Bearer hf_secret"), (True, None)}


def test_a_pinned_revision(hub: Hub) -> None:
    commit = hub.commit(P500M.base)
    assert find_base(f"{P500M.base}@{commit}").revision == commit
    hub.requests.clear()
    assert find_base(f"{P500M.base}@{commit}").revision == commit
    assert find_hypernetwork("x", f"{NEW}@{hub.commit(NEW)}:{P500M.checkpoint_file}").config.rank == 4
    assert not [r for r in hub.requests if P500M.base in r.path]


def test_a_repository_alone_names_its_only_hypernetwork(hub: Hub) -> None:
    with pytest.raises(ModelError, match=rf"{P500M.checkpoint_file}, other\.pt; say which"):
        find_hypernetwork("x", NEW)
    assert find_hypernetwork("500m", NEW).config.rank == 4  # the preset knows which
    del hub.repos[NEW]["other.pt"]
    assert find_hypernetwork("x", NEW).config.rank == 4
    with pytest.raises(ModelError, match="No hypernetwork is known"):
        find_hypernetwork("org/name")


def test_our_safetensors_from_the_hub(hub: Hub) -> None:
    mine = find_hypernetwork("500m")
    kinds = (".safetensors", ".json")
    hub.repos["me/mine"] = {f"h{kind}": mine.weights.with_suffix(kind).read_bytes() for kind in kinds}
    found = find_hypernetwork("x", "me/mine")
    assert (found.name, found.config, found.sha256) == ("me/mine:h.safetensors", mine.config, mine.sha256)


def test_offline_without_a_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for find in (find_base, find_hypernetwork):
        with pytest.raises(ModelError, match=r"not in the Hugging Face cache.*v2l is offline.*v2l models pull"):
            find("500m", offline=True)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(ModelError, match=r"v2l is offline, as HF_HUB_OFFLINE says; .* `v2l models pull 500m`"):
            find("500m")
        monkeypatch.delenv("HF_HUB_OFFLINE")
    assert hub.requests == []


def test_offline_with_a_cache_and_with_no_hub_at_all(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_base("500m"), find_hypernetwork("500m")
    hub.requests.clear()
    assert (find_base("500m", offline=True), find_hypernetwork("500m", offline=True)) == files
    assert hub.requests == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert (find_base("500m"), find_hypernetwork("500m")) == files
    with pytest.raises(ModelError, match=r"The connection to http://127.0.0.1:9 failed"):
        find_base("2.2b")
    with pytest.raises(ModelError, match=r"The connection to http://127.0.0.1:9 failed"):
        find_hypernetwork("2.2b")


def test_pull_says_how_much_will_come_in_and_only_then_fetches_it(hub: Hub) -> None:
    base, hypernetwork = (PRESETS["500m"].base, PRESETS["500m"].checkpoints[0])
    sizes = to_fetch("500m")
    assert hub.fetched() == [] and sizes[hypernetwork] == len(hub.repos[hypernetwork][PRESETS["500m"].checkpoint_file])
    run("models", "pull", "500m")
    assert sizes[base] == sum(len(hub.repos[base][name]) for name in set(hub.fetched()) & hub.repos[base].keys())
    shutil.rmtree(hub_cache())
    assert run("models", "pull", "500m").stderr.startswith(
        f"Fetching at most {size_text(sizes[base])} of {base} and {size_text(sizes[hypernetwork])} of {hypernetwork} "
        "into ")
    assert to_fetch("500m") == {} and "Fetching" not in run("models", "pull", "500m").stderr
    hub.repos[base]["config.json"] += b" "
    assert list(to_fetch("500m")) == [base], "a newer commit is fetched anew"


def test_pull_fetches_what_is_new(hub: Hub) -> None:
    base, released = pull("500m")
    assert released is not None and pull("500m") == (base, released)
    hub.repos[P500M.base]["generation_config.json"] += b"\n"
    assert find_base("500m") == base  # what is there is used
    newer, _ = pull("500m")
    assert newer.revision == hub.commit(P500M.base) != base.revision
    assert find_base("500m") == newer
    assert len(hub.ranges_asked("model.safetensors")) == 1  # its content is the same


def test_shards_are_those_of_the_index(hub: Hub) -> None:
    from safetensors.torch import load, save

    files = hub.repos[P500M.base]
    tensors = load(files.pop("model.safetensors"))
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:30], "model-00002-of-00002.safetensors": names[30:]}
    files |= {part: save({n: tensors[n] for n in of}) for part, of in parts.items()}
    index = {"weight_map": {name: part for part, of in parts.items() for name in of}}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    files["training.safetensors"] = b"never"
    found = find_base("500m")
    assert {f.name for f in found.folder.glob("*.safetensors")} == set(parts)
    assert find_base("500m", offline=True) == found

    del files["model-00002-of-00002.safetensors"]
    with pytest.raises(ModelError, match=r"has no model-00002-of-00002\.safetensors"):
        pull("500m")


def test_a_damaged_cache_is_repaired_online_and_reported_offline(hub: Hub) -> None:
    found = find_base("500m")
    weights = (found.folder / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="is not whole"):
        find_base("500m", offline=True)
    assert find_base("500m") == found
    assert find_base("500m", offline=True) == found


def test_other_architectures_are_refused_before_their_weights_come_in(hub: Hub) -> None:
    config = b'{"model_type": "llama"}'
    hub.repos["some/llama"] = {"config.json": config, "tokenizer.json": b"{}", "model.safetensors": b"x"}
    with pytest.raises(ModelError, match="is a llama model, not a SmolVLM"):
        find_base("some/llama")
    assert "model.safetensors" not in hub.fetched()


def test_disk_full_is_one_sentence_and_goes_on_later(hub: Hub) -> None:
    full = rf"^There is no space left for {P500M.base}@.*HF_HOME"
    with files_no_larger_than(1 << 19), pytest.raises(ModelError, match=full):
        find_base("500m")
    hub.requests.clear()
    find_base("500m")
    assert hub.ranges_asked("model.safetensors") == [f"bytes={1 << 19}-"]


def test_too_little_space_is_seen_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ModelError, match="no space left"):
        find_hypernetwork("500m")
    assert hub.fetched() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_cache(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="could not be stored in"):
        find_hypernetwork("500m")


def test_a_cache_that_is_a_file(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    for find in (find_base, find_hypernetwork):
        with pytest.raises(ModelError, match="could not be stored in"):
            find("500m")


def test_two_processes_pull_at_once(hub: Hub) -> None:
    other = Beside("import torch; from v2l.store.resolve import pull", "print(pull('500m')[1].sha256)")
    other.go()
    _, found = pull("500m")
    assert found is not None and other.result() == found.sha256
    assert len(hub.ranges_asked("model.safetensors")) == 1


def test_presets_are_listed_as_they_are_on_disk(hub: Hub) -> None:
    assert [(a.name, a.ready) for a in available() if a.name != "tiny"] == [("500m", False), ("2.2b", False)]
    find_base("500m")
    listed = {a.name: a for a in available()}
    assert listed["500m"].base_folder is not None and not listed["500m"].ready
    assert listed["500m"].size > 800_000 and listed["2.2b"].size == 0
    assert listed["tiny"].base == checkpoints.TINY_ID


# What was fetched is what is used.


def blob(folder: Path, name: str) -> Path:
    return (folder / name).resolve()


def test_a_branch_that_moves_on_moves_nothing_here(hub: Hub) -> None:
    found, released = find_base("500m"), find_hypernetwork("500m")
    repo = client.Repo(P500M.base)
    hub.repos[P500M.base]["generation_config.json"] = b"{}"
    later = hub.commit(P500M.base)
    assert later != found.revision
    for name in hub.repos[P500M.base]:  # another program fetches all of it
        if name in NEEDED:
            client.download(client.Repo(P500M.base, later), name)
    client.set_revision(repo, client.Repo(P500M.base, later))
    assert snapshot(repo) == client.hub_cache() / repo.folder.name / "snapshots" / later
    assert find_base("500m") == found and find_hypernetwork("500m") == released
    assert next(a for a in available() if a.name == "500m").base_folder == found.folder
    assert pull("500m")[0].revision == later == find_base("500m").revision


def test_what_a_cleared_cache_lost_comes_from_the_same_commit(hub: Hub) -> None:
    found = find_base("500m")
    shutil.rmtree(client.hub_cache())
    assert find_base("500m") == found
    assert not any("/main" in request.path for request in hub.requests[-len(NEEDED):])


@pytest.mark.parametrize("name", ["model.safetensors", "generation_config.json", P500M.checkpoint_file])
def test_what_was_changed_is_not_used(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def both() -> tuple[object, object]:
        return find_base("500m"), find_hypernetwork("500m")

    used = both()
    file = next(path for path in client.hub_cache().rglob(name)).resolve()
    whole = file.read_bytes()
    file.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"not what was fetched.*delete it and fetch it again"):
        both()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert both() == used and file.read_bytes() == whole


def test_a_hub_that_changes_a_commit_is_not_believed(hub: Hub) -> None:
    found = find_base("500m")
    file = blob(found.folder, "generation_config.json")
    whole = file.read_bytes()
    hub.body["generation_config.json"] = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    for name in ("generation_config.json", "config.json"):
        blob(found.folder, name).unlink()
    for _ in range(2):
        with pytest.raises(ModelError, match=r"not what was fetched"):
            find_base("500m")


def test_verify_reads_everything_and_pull_repairs(hub: Hub) -> None:
    assert "Nothing was fetched yet." in run("models", "verify").stderr
    weights, converted = pull("500m")[0].folder / "model.safetensors", find_hypernetwork("500m").weights
    said = run("models", "verify").stdout.splitlines()
    assert len(said) == 3 and all("as it was" in line for line in said)
    assert f"{P500M.base}: 9 files" in "".join(said)
    for file in (weights.resolve(), converted):
        status, whole = file.stat(), file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # of the last number
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a disk does it
        find_base("500m")
        wrong = run("models", "verify", "--json", status=1)
        assert [line["changed"] for line in documents(wrong) if line["changed"]] == [[str(file)]]
        assert str(file) in wrong.stderr and "v2l models pull" in wrong.stderr
        if file == converted:
            file.unlink()
        run("models", "pull", "500m")
        assert file.read_bytes() == whole
        run("models", "verify")


def test_pull_brings_a_named_checkpoint_up_to_date_and_fetches_no_other(hub: Hub, reference: Path) -> None:
    """A checkpoint that goes with a preset takes the place of the preset's own."""
    from safetensors.torch import load, save

    ours = find_hypernetwork("500m", str(reference / "hypernetwork.pt")).weights
    weights, config = ours.read_bytes(), ours.with_suffix(".json").read_bytes()
    hub.repos["me/mine"] = {"h.safetensors": weights, "h.json": config}
    pull = ("models", "pull", "500m", "--checkpoint", "me/mine")
    first = Path(run(*pull).stdout.splitlines()[1])
    assert first.read_bytes() == weights and P500M.checkpoint_file not in hub.fetched()

    newer = save({name: tensor * 2 for name, tensor in load(weights).items()})
    hub.repos["me/mine"] = {"better.safetensors": newer, "better.json": config}
    assert find_hypernetwork("500m", "me/mine").weights == first  # what is there is used
    second = Path(run(*pull).stdout.splitlines()[1])
    assert second.name == "better.safetensors" and second.read_bytes() == newer
    assert find_hypernetwork("500m", "me/mine").weights == second
    assert P500M.checkpoint_file not in hub.fetched()
