"""The paper's benchmarks from local copies: layouts of every one, made up here, and all that can be wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from v2l.bench.benchmarks.benchmark import ONE_SENTENCE
from v2l.bench.benchmarks.carebench import CAREBENCH_PARTS
from v2l.bench.benchmarks.load import load_benchmark
from v2l.bench.benchmarks.registry import PUBLIC_BENCHMARKS, find_benchmark
from v2l.bench.benchmarks.vdc import VDC_STYLES
from v2l.config import Sampling
from v2l.errors import UsageError
from v2l.manifest import Item, Turn, read_manifest, write_manifest
from v2l.video.clip import frame_indices


def put(path: Path, content: Any = b"") -> Path:
    """A file: bytes and texts as they are, a list as JSON Lines where the name says so, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl" and isinstance(content, list):
        content = "".join(json.dumps(each) + "\n" for each in content)
    elif not isinstance(content, (bytes, str)):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def videos(folder: Path, *names: str) -> Path:
    """Files by these names; no loader opens one."""
    for name in names:
        put(folder / name)
    return folder


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(UsageError) as error:
        load_benchmark(*args, **options)
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text
    return text


def activitynet_captions(folder: Path) -> Path:
    put(folder / "val_1.json", {
        "v_kite": {"duration": 9.5, "timestamps": [[0, 4], [3.5, 9.5]],
                   "sentences": ["A kite rises. ", " ", " It falls."]},
        "v_boat": {"duration": 5, "timestamps": [[0, 5]], "sentences": ["A boat turns."]}})
    put(folder / "val_2.json", {
        "v_kite": {"duration": 9.5, "timestamps": [[0, 9]], "sentences": ["Somebody flies it."]}})
    return videos(folder, "videos/v_kite.mkv", "videos/boat.mp4")


def plm_rdcap(folder: Path) -> Path:
    put(folder / "rdcap/plm_rdcap_test.jsonl", [
        {"uid": 7, "video": "sav_9.mp4", "masklet_id": 2, "total_frames": 30, "dense_captions": [
            {"start_frame": 13, "end_frame": 29, "caption": "It sits."},
            {"start_frame": 0, "end_frame": 12, "caption": "A fox walks."}]}])
    return videos(folder, "videos_fps_6/sav_9.mp4")


def plm_rcap(folder: Path) -> Path:
    put(folder / "rcap/plm_rcap_test.jsonl", [
        {"uid": 1, "video": "sav_9.mp4", "masklet_id": 2, "total_frames": 30, "caption": "A fox sits.",
         "start_frame": 12, "end_frame": 29},
        {"uid": 2, "video": "sav_9.mp4", "masklet_id": 2, "total_frames": 30, "caption": "A fox walks.",
         "start_frame": 0, "end_frame": 0}])
    return videos(folder, "videos_fps_6/sav_9.mp4")


def vdc(folder: Path) -> Path:
    put(folder / "VDC_1k.jsonl", [
        {"video_id": "pond_1", "video_name": "pond_1.mp4",
         **{f"{style}_caption": f"It is {style}." for style in VDC_STYLES}},
        {"video_id": "barn_2", "video_name": "barn_2.mp4", "short_caption": "A barn.", "camera_caption": " "}])
    return videos(folder, "videos/videos/pond_1.MP4", "videos/videos/barn_2.webm")


def carebench(folder: Path) -> Path:
    rows = [{"idx": 0, "video": "v_01_5.mp4", "caption": "A cook.", "spatial_caption": "Left.",
             "temporal_caption": "Then.", "events": ["stir the pot", "taste it"], "objects": "pot", "category": "food"},
            {"idx": 1, "video": "v_02_1.mp4", "caption": "A swimmer.", "events": None}]
    put(folder / "json/metadata.json", rows)
    put(folder / "videos/metadata.json", rows)  # the archive of videos brings a copy
    return videos(folder, "videos/v_01_5.mp4", "videos/v_02_1.mp4")


def next_qa(folder: Path) -> Path:
    put(folder / "dataset/nextqa/test.csv",
        "video,frame_count,width,height,question,answer,qid,type\n"
        '77001,300,640,480,"why does the hen, the red one, run",to the barn,0,CW\n'
        "77001,300,640,480,how many hens are there,two,4,DC\n")
    put(folder / "dataset/nextqa/add_reference_answer_test.json", {"77001": {"0": "towards the barn", "4": "two"}})
    return videos(folder, "NExTVideo/1103/77001.mp4")


def activitynet_qa(folder: Path) -> Path:
    put(folder / "dataset/test_q.json", [
        {"video_name": "kite", "question": "is it a kite", "question_id": "v_kite_1"},
        {"video_name": "boat", "question": "what color is the boat", "question_id": "v_boat_1"}])
    put(folder / "dataset/test_a.json", [
        {"answer": "red", "type": 4, "question_id": "v_boat_1"},
        {"answer": "yes", "type": 3, "question_id": "v_kite_1"}])
    return videos(folder, "all_test/v_kite.mp4", "all_test/boat.mkv")


def plm_sgqa(folder: Path) -> Path:
    put(folder / "sgqa/plm_sgqa_test.jsonl", [
        {"uid": "q-1", "video": "glasses_1_2.mp4", "question": "Is this ripe?", "answer": "Yes, quite.",
         "domain": "food"}])
    return videos(folder, "videos/sgqa/glasses_1_2.mp4")


def vidcapbench(folder: Path) -> Path:
    put(folder / "VidCapBench-AE_QA.jsonl", [
        {"video_dir": "/else/videos/clip_1.mp4", "QA_pairs": [
            {"question": "What is the style?", "answer": "Anime.", "sub_category": "style",
             "primary_category": "video aesthetics"}]},
        {"video_dir": "/else/videos/clip_2.mp4", "QA_pairs": []}])
    put(folder / "VidCapBench-HE_QA.jsonl", [
        {"video_dir": "/else/videos/clip_1.mp4", "QA_pairs": [
            {"question": "Where is the cup?", "answer": "On the table.", "sub_category": "spatial relationships"}]}])
    return videos(folder, "videos/clip_1.mp4")


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "activitynet-captions": activitynet_captions, "plm-rdcap": plm_rdcap, "plm-rcap": plm_rcap, "vdc": vdc,
    "carebench": carebench, "next-qa": next_qa, "activitynet-qa": activitynet_qa, "plm-sgqa": plm_sgqa,
    "vidcapbench": vidcapbench,
}


def expected(folder: Path) -> dict[str, list[Item]]:
    """What the layouts above say."""
    def qa(id: str, video: str, question: str, answers: tuple[str, ...], kind: str) -> Item:
        name = next(name for name in PUBLIC_BENCHMARKS if id.startswith(name))
        return Item(id, folder / video, (Turn(f"{question} {ONE_SENTENCE}", answers, kind),), None, None, "test", name)

    def captioned(id: str, video: str, prompt: str, answers: tuple[str, ...], kind: str = "",
                  times: tuple[float | None, float | None] = (None, None), split: str = "test") -> Item:
        name = next(name for name in PUBLIC_BENCHMARKS if id.startswith(name))
        return Item(id, folder / video, (Turn(prompt, answers, kind),), *times, split, name)

    happening = "Describe what is happening in this video."
    return {
        "activitynet-captions": [
            captioned("activitynet-captions-kite", "videos/v_kite.mkv", happening,
                      ("A kite rises. It falls.", "Somebody flies it."), split="val"),
            captioned("activitynet-captions-boat", "videos/boat.mp4", happening, ("A boat turns.",), split="val")],
        "plm-rdcap": [captioned("plm-rdcap-7", "videos_fps_6/sav_9.mp4", "Describe what happens in this video.",
                                ("A fox walks. It sits.",))],
        "plm-rcap": [
            captioned("plm-rcap-1", "videos_fps_6/sav_9.mp4", "Describe what happens in this video clip.",
                      ("A fox sits.",), times=(2.0, 5.0)),
            captioned("plm-rcap-2", "videos_fps_6/sav_9.mp4", "Describe what happens in this video clip.",
                      ("A fox walks.",), times=(0.0, 1 / 6))],
        "vdc": [captioned(f"vdc-pond_1-{number}", "videos/videos/pond_1.MP4", prompt, (f"It is {style}.",), style)
                for number, (style, prompt) in enumerate(VDC_STYLES.items(), 1)]
               + [captioned("vdc-barn_2", "videos/videos/barn_2.webm", VDC_STYLES["short"], ("A barn.",), "short")],
        "carebench": [captioned(f"carebench-v_01_5.mp4-{number}", "videos/v_01_5.mp4", CAREBENCH_PARTS[part],
                                (told,), part)
                      for number, (part, told) in enumerate((
                          ("caption", "A cook."), ("events", "stir the pot; taste it"), ("objects", "pot"),
                          ("spatial_caption", "Left."), ("temporal_caption", "Then.")), 1)]
                     + [captioned("carebench-v_02_1.mp4", "videos/v_02_1.mp4", CAREBENCH_PARTS["caption"],
                                  ("A swimmer.",), "caption")],
        "next-qa": [qa("next-qa-77001_0", "NExTVideo/1103/77001.mp4", "why does the hen, the red one, run",
                       ("to the barn", "towards the barn"), "CW"),
                    qa("next-qa-77001_4", "NExTVideo/1103/77001.mp4", "how many hens are there", ("two",), "DC")],
        "activitynet-qa": [
            qa("activitynet-qa-v_kite_1", "all_test/v_kite.mp4", "is it a kite", ("yes",), "yes/no"),
            qa("activitynet-qa-v_boat_1", "all_test/boat.mkv", "what color is the boat", ("red",), "color")],
        "plm-sgqa": [qa("plm-sgqa-q-1", "videos/sgqa/glasses_1_2.mp4", "Is this ripe?", ("Yes, quite.",), "food")],
        "vidcapbench": [
            qa("vidcapbench-clip_1.mp4-1", "videos/clip_1.mp4", "What is the style?", ("Anime.",), "video aesthetics"),
            qa("vidcapbench-clip_1.mp4-2", "videos/clip_1.mp4", "Where is the cup?", ("On the table.",),
               "spatial relationships")],
    }


def test_the_benchmarks_are_the_papers_rows() -> None:
    assert list(PUBLIC_BENCHMARKS) == list(LAYOUTS)
    assert [each.task for each in PUBLIC_BENCHMARKS.values()] == ["caption"] * 5 + ["qa"] * 4
    assert find_benchmark("NExT-QA") is find_benchmark("next_qa") is PUBLIC_BENCHMARKS["next-qa"]
    with pytest.raises(UsageError, match=r"no benchmark 'msvd'; there are activitynet-captions, plm-rdcap, .*\.$"):
        find_benchmark("msvd")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_becomes_items_and_a_manifest(name: str, tmp_path: Path) -> None:
    folder = LAYOUTS[name](tmp_path / "copy")
    loaded = load_benchmark(name, folder)
    assert loaded == expected(folder)[name]
    assert (loaded.left_out, loaded.missing) == (0, ()) and loaded.file.is_relative_to(folder)
    write_manifest(tmp_path / "m.jsonl", loaded)
    assert read_manifest(tmp_path / "m.jsonl") == loaded
    if loaded.file.parent == folder:
        assert load_benchmark(name, loaded.file) == loaded, "the file itself is as good as its folder"


def test_an_event_is_cut_to_its_very_frames(tmp_path: Path) -> None:
    for item, (first, last) in zip(load_benchmark("plm-rcap", plm_rcap(tmp_path)), ((12, 29), (0, 0)), strict=True):
        for fps in (6, 24):  # both rates that the videos come in
            every = Sampling(frames=1000, fps=fps, skip=0, start=item.start, end=item.end)
            assert {index * 6 // fps for index in frame_indices(40 * fps // 6, fps, every)} == {*range(first, last + 1)}


def test_the_official_vdc_evaluations_form_is_read_too(tmp_path: Path) -> None:
    put(tmp_path / "VDC_1k_captions.jsonl", [{"video_id": "a", "captions": {"camera_caption": "It pans."}}])
    item, = load_benchmark("vdc", videos(tmp_path, "a.mp4"))
    assert item.turns == (Turn(VDC_STYLES["camera"], ("It pans.",), "camera"),)


def test_next_qas_choices_are_kept_and_not_offered(tmp_path: Path) -> None:
    next_qa(tmp_path)
    put(tmp_path / "dataset/nextqa/test.csv", "video,question,answer,qid,type,a0,a1,a2,a3,a4\n"
                                              "77001,where is the hen,1,0,DL,pond,barn,roof,road,tree\n")
    item, = load_benchmark("next-qa", tmp_path)
    assert item.turns == (Turn(f"where is the hen {ONE_SENTENCE}", ("barn",), "DL"),), "and no open-ended second answer"
    assert item.choices == ("pond", "barn", "roof", "road", "tree")


def test_what_has_no_video_is_counted(tmp_path: Path) -> None:
    activitynet_qa(tmp_path)
    (tmp_path / "all_test/boat.mkv").unlink()
    loaded = load_benchmark("activitynet-qa", tmp_path)
    assert [item.id for item in loaded] == ["activitynet-qa-v_kite_1"]
    assert (loaded.entries, loaded.left_out, loaded.missing) == (2, 1, ("v_boat",))
    (tmp_path / "all_test/v_kite.mp4").unlink()
    assert "such as v_kite, is among the 0 below" in refusal("activitynet-qa", tmp_path)


def many(folder: Path, count: int) -> Path:
    rows = [{"video_id": f"w{i}", "short_caption": "S.", "camera_caption": "C."} for i in range(count)]
    put(folder / "VDC_1k.jsonl", rows)
    return videos(folder, *(f"w{i}.mp4" for i in range(count)))


def test_a_draw_is_of_whole_entries_seeded_and_steady(tmp_path: Path) -> None:
    folder = many(tmp_path, 40)

    def drawn(clips: int, seed: int) -> list[str]:
        return [item.id for item in load_benchmark("vdc", folder, clips=clips, seed=seed)]

    everything = drawn(40, 0)
    assert len(everything) == 80 == len(drawn(1000, 5))
    few = drawn(6, 0)
    assert few == drawn(6, 0) and len(few) == 12 and few != drawn(6, 1)
    assert few == [id for id in everything if id in few], "in the order of the file, both styles of each"
    assert len({id.rsplit("-", 1)[0] for id in few}) == 6
    assert set(few) < set(drawn(9, 0))
    gone = few[0].split("-")[1]
    (folder / f"{gone}.mp4").unlink()
    again = drawn(6, 0)
    assert len(again) == 12 and set(few) - set(again) == {id for id in few if id.split("-")[1] == gone}


def test_a_draw_takes_clips_with_all_that_is_asked_about_them(tmp_path: Path) -> None:
    rows = [f"{video},why {n},because,{n},CW" for n in range(5) for video in range(8)]
    put(tmp_path / "test.csv", "\n".join(["video,question,answer,qid,type", *rows]))
    drawn = load_benchmark("next-qa", videos(tmp_path, *(f"{n}.mp4" for n in range(8))), clips=3)
    assert len({item.video for item in drawn}) == 3 and len(drawn) == 15
    events = [{"uid": n, "video": "a.mp4", "caption": "c", "start_frame": n, "end_frame": n} for n in range(6)]
    put(tmp_path / "plm_rcap_test.jsonl", events)
    videos(tmp_path, "a.mp4")
    assert len(load_benchmark("plm-rcap", tmp_path, clips=4)) == 4, "an event is a clip of its own"


def test_marks_line_ends_quotes_and_scripts_survive(tmp_path: Path) -> None:
    rows = ('video,question,answer,qid,type\r\n'
            '5,"was macht die ""Henne"", genau\r\nhier",läuft\u2028weg,0,CW\r\n\r\n'
            '5,鶏はどこ,納屋 🐔,1,DL\r\n')
    put(tmp_path / "val.csv", b"\xef\xbb\xbf" + rows.encode())
    first, second = load_benchmark("next-qa", videos(tmp_path, "5.mp4"))
    assert first.turns == (Turn(f'was macht die "Henne", genau\r\nhier {ONE_SENTENCE}', ("läuft\u2028weg",), "CW"),)
    assert second.turns[0].targets == ("納屋 🐔",) and second.split == "val"
    lines = '{"uid": 1, "video": "5.mp4", "question": "a\u2028b\\u00e9", "answer": "c"}\r\n\r\n'
    put(tmp_path / "plm_sgqa_test.jsonl", b"\xef\xbb\xbf" + lines.encode())
    item, = load_benchmark("plm-sgqa", tmp_path)
    assert item.turns[0].prompt == f"a\u2028bé {ONE_SENTENCE}"


RCAP = {"uid": 1, "video": "a.mp4", "caption": "c", "start_frame": 0, "end_frame": 3}
PAIR = {"question": "q", "answer": "a", "sub_category": "style"}

WRONG: list[tuple[str, str, Any, str]] = [
    ("plm-rcap", "plm_rcap_test.jsonl", [RCAP, {**RCAP, "caption": None}], "line 2: caption is null, not a text"),
    ("plm-rcap", "plm_rcap_test.jsonl", [{**RCAP, "caption": " "}], "line 1: caption is blank"),
    ("plm-rcap", "plm_rcap_test.jsonl", [{**RCAP, "caption": "\ud800"}], "line 1: caption is no valid Unicode"),
    ("plm-rcap", "plm_rcap_test.jsonl", [{**RCAP, "uid": True}], "line 1: uid is true, not a text"),
    ("plm-rcap", "plm_rcap_test.jsonl", [{**RCAP, "end_frame": -1}], 'end_frame is "-1", not a whole number'),
    ("plm-rcap", "plm_rcap_test.jsonl", [{**RCAP, "end_frame": 10**30}], "not a whole number"),
    ("plm-rcap", "plm_rcap_test.jsonl", [{**RCAP, "start_frame": 9}], "end_frame (3) comes before start_frame (9)"),
    ("plm-rcap", "plm_rcap_test.jsonl", [{"uid": 1}], "line 1: there is no start_frame"),
    ("plm-rcap", "plm_rcap_test.jsonl", "{}\n[1]\n", "line 2 is [1], not a JSON object"),
    ("plm-rcap", "plm_rcap_test.jsonl", '{"uid": 1', "line 1: this is not JSON"),
    ("plm-rcap", "plm_rcap_test.jsonl", b"\xff\xfe\xff", "cannot be read (it is no text in UTF-8 or UTF-16)"),
    ("plm-rcap", "plm_rcap_test.jsonl", "\n", "holds nothing to ask"),
    ("plm-rdcap", "plm_rdcap_test.jsonl", [{"uid": 1, "dense_captions": []}], "dense_captions is empty"),
    ("plm-rdcap", "plm_rdcap_test.jsonl", [{"uid": 1, "dense_captions": "x"}], 'dense_captions is "x", not a list'),
    ("plm-rdcap", "plm_rdcap_test.jsonl", [{"uid": 1, "video": "a", "dense_captions": [{"start_frame": 0}]}],
     "line 1, dense_captions 1: there is no caption"),
    ("activitynet-captions", "val_1.json", {"v_a": {"sentences": [" "]}}, 'val_1.json, "v_a": there are no sentences'),
    ("activitynet-captions", "val_1.json", [1], "is no JSON object of objects"),
    ("vdc", "VDC_1k.jsonl", [{"video_id": "a"}], "line 1: there is none of short_caption, detailed_caption"),
    ("carebench", "metadata.json", [{"video": "a.mp4", "events": [{"x": 1}]}], 'events is {"x": 1}, not a text'),
    ("carebench", "metadata.json", {"video": "a.mp4"}, "is no JSON list of objects"),
    ("carebench", "metadata.json", "[" * 100_000, "this is not JSON"),
    ("next-qa", "test.csv", "video,question,answer,qid,type\n1,q\n", "line 2: it has fewer columns than the header"),
    ("next-qa", "test.csv", "video,question,answer,qid,type\n1,q,a,0,CW,x\n", "line 2: it has more columns"),
    ("next-qa", "test.csv", 'video,question,answer,qid,type\n1,"q,a,0,CW\n', "after line 1: unexpected end of data"),
    ("next-qa", "test.csv", "video,question,qid,type\n1,q,0,CW\n", "line 2: there is no answer"),
    ("next-qa", "test.csv", "video,question,answer,qid,type,a0,a1,a2,a3,a4\n1,q,5,0,CW,a,b,c,d,e\n", "answer is 5"),
    ("activitynet-qa", "test_q.json", [], "test_q.json needs the answers beside it, in test_a.json"),
    ("vidcapbench", "VidCapBench-AE_QA.jsonl", [{"video_dir": "a.mp4"}], "line 1: there is no QA_pairs"),
    ("vidcapbench", "VidCapBench-AE_QA.jsonl", [{"video": "a.mp4", "QA_pairs": [PAIR, {"question": "q"}]}],
     "line 1, QA_pairs 2: there is no answer"),
]


@pytest.mark.parametrize(("name", "file", "content", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_what_is_wrong_is_told_with_its_place(name: str, file: str, content: Any, told: str, tmp_path: Path) -> None:
    path = put(tmp_path / file, content)
    message = refusal(name, videos(tmp_path, "a.mp4", "1.mp4"))
    assert message.startswith((str(path), f"The annotations {path}")) and told in message


def test_an_answer_that_is_not_there_or_of_no_type(tmp_path: Path) -> None:
    activitynet_qa(tmp_path)
    answers = tmp_path / "dataset/test_a.json"
    put(answers, [{"answer": "yes", "type": 9, "question_id": "v_kite_1"}])
    assert f"{answers}, entry 1: type is 9, and the last one is 8" in refusal("activitynet-qa", tmp_path)
    put(answers, [{"answer": "yes", "type": 3, "question_id": "v_kite_1"}])
    assert "test_q.json, entry 2: test_a.json has no answer to v_boat_1" in refusal("activitynet-qa", tmp_path)
    assert "in *_a.json." in refusal("activitynet-qa", put(tmp_path / "own.json", []))


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = videos(tmp_path / "copy", "in.mp4")
    outside = put(tmp_path / "secret.mp4")
    tricks = ["../secret.mp4", str(outside), "..\\secret.mp4", "in.mp4/../../secret", "\0", "..", "/", "~/secret.mp4"]
    put(folder / "VDC_1k.jsonl", [{"video_id": id, "short_caption": "S."} for id in (*tricks, "../copy/in.mp4", "in")])
    loaded = load_benchmark("vdc", folder)
    assert [item.video for item in loaded] == [folder / "in.mp4"] * 2, "a name is looked up, not followed"
    assert loaded.missing == tuple(tricks)
    assert [item.id for item in loaded] == ["vdc-__copy_in.mp4", "vdc-in"]


def test_ids_differ_where_keys_do_not(tmp_path: Path) -> None:
    put(tmp_path / "VDC_1k.jsonl", [{"video_id": id, "short_caption": "S."} for id in ("a", "a", "a.2", "a")])
    assert [item.id for item in load_benchmark("vdc", videos(tmp_path, "a.mp4", "a.2.mp4"))] == [
        "vdc-a", "vdc-a.2", "vdc-a.2.2", "vdc-a.3"]


def test_of_videos_with_one_name_the_likest_is_taken(tmp_path: Path) -> None:
    put(tmp_path / "VDC_1k.jsonl", [{"video_id": "x", "video_name": "b/x.mp4", "short_caption": "S."}])
    videos(tmp_path, "a/x.mp4", "b/x.webm", "b/x.mp4", "c/.x.mp4", ".hidden/b/x.mp4")
    assert load_benchmark("vdc", tmp_path)[0].video == tmp_path / "b/x.mp4"
    put(tmp_path / "VDC_1k.jsonl", [{"video_id": "x", "short_caption": "S."}])
    message = refusal("vdc", tmp_path)
    assert message.startswith(f"x may be {tmp_path / 'a/x.mp4'} or {tmp_path / 'b/x.mp4'}; keep one")


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    put(folder / "VDC_1k.jsonl", [{"video_id": "x", "short_caption": "S."}])
    (folder / "videos").symlink_to(videos(tmp_path / "disk", "x.mp4"), target_is_directory=True)
    (tmp_path / "disk/back").symlink_to(folder, target_is_directory=True)
    assert [item.video for item in load_benchmark("vdc", folder)] == [folder / "videos/x.mp4"]


def test_annotation_files_of_one_name_must_be_alike(tmp_path: Path) -> None:
    carebench(tmp_path)
    put(tmp_path / "videos/metadata.json", [])
    assert "metadata.json have the same name and differ" in refusal("carebench", tmp_path)
    (tmp_path / "json/videos").symlink_to(tmp_path / "videos", target_is_directory=True)
    assert len(load_benchmark("carebench", tmp_path / "json/metadata.json")) == 6


def test_splits(tmp_path: Path) -> None:
    row = {"uid": 1, "video": "a.mp4", "caption": "test", "start_frame": 0, "end_frame": 3}
    for split in ("test", "val"):
        put(tmp_path / f"plm_rcap_{split}.jsonl", [{**row, "caption": split}])
    videos(tmp_path, "a.mp4")

    def told(**options: Any) -> tuple[str, str]:
        item, = load_benchmark("plm-rcap", **options)
        return item.turns[0].targets[0], item.split

    assert told(folder=tmp_path) == ("test", "test")
    assert told(folder=tmp_path, split="val") == ("val", "val")
    assert told(folder=tmp_path / "plm_rcap_val.jsonl") == ("val", "val")
    (tmp_path / "plm_rcap_test.jsonl").unlink()
    assert told(folder=tmp_path) == ("val", "val"), "the one there is"
    assert "There is no plm_rcap_test.jsonl below" in refusal("plm-rcap", tmp_path, split="test")
    assert "no split 'train' with references; it has test, val" in refusal("plm-rcap", tmp_path, split="train")


def test_what_is_no_annotation_file(tmp_path: Path) -> None:
    assert "There is no VDC_1k.jsonl below" in refusal("vdc", tmp_path / "nowhere")
    parquet = put(videos(tmp_path, "a.mp4") / "rcap/plm_rcap_test.parquet", b"PAR1")
    for place in (tmp_path, parquet):
        message = refusal("plm-rcap", place)
        assert message.startswith(f"{parquet} is parquet") and ".to_json('plm_rcap_test.jsonl'" in message
    assert "is no annotation file" in refusal("vdc", tmp_path / "a.mp4")


def test_loading_is_light() -> None:
    script = "import sys, v2l.bench.benchmarks; print({'torch', 'transformers', 'cv2', 'av'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told == "set()\n"
