"""scripts/to_tar.py: what it reads, what it writes, what it refuses; and that facet trains on it."""

import glob
import json
import os
import subprocess
import sys
import tarfile
from unittest import mock

import pyarrow
import pyarrow.parquet
from support import ScriptTest

import to_tar

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
JPEG, PNG, WEBP = b"\xff\xd8\xff\xe0 a", b"\x89PNG\r\n\x1a\n b", b"RIFF\0\0\0\0WEBP c"


class ToTarTest(ScriptTest):
    def table(self, name, **columns):
        path = self.at(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        table = pyarrow.table(columns)
        if name.endswith(".parquet"):
            pyarrow.parquet.write_table(table, path, row_group_size=2)
        else:
            new = pyarrow.ipc.new_file if name.endswith("file.arrow") else pyarrow.ipc.new_stream
            with new(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
        return path

    def call(self, *arguments):
        with mock.patch("sys.stdout") as out, mock.patch("sys.stderr") as err:
            code = to_tar.main([*map(str, arguments), "--output", self.at("out/s")])
        said = ["".join(call.args[0] for call in stream.write.call_args_list) for stream in (out, err)]
        return (code, *said)

    def members(self, *arguments):
        """{name: content} of all shards, in order."""
        code, self.said, err = self.call(*arguments)
        self.assertEqual((code, err), (0, ""))
        found = {}
        for path in sorted(glob.glob(self.at("out/*"))):
            with tarfile.open(path) as tar:
                found.update((member.name, tar.extractfile(member).read()) for member in tar)
        return found

    def refuse(self, code, text, *arguments):
        found, out, err = self.call(*arguments)
        self.assertEqual((found, out, err.count("\n")), (code, "", 1), err)
        self.assertIn(text, err)

    def turns(self, content):
        return [(turn["role"], turn["content"]) for turn in json.loads(content)["messages"]]

    def test_captions_of_every_kind_of_image_column(self):
        self.write("a.png", PNG)
        kinds = {
            "struct": [{"bytes": JPEG, "path": None}, {"bytes": None, "path": "a.png"}],
            "binary": [JPEG, PNG],
            "list": [[JPEG], [PNG]],
        }
        for name, images in kinds.items():
            with self.subTest(name):
                path = self.table(name + ".parquet", image=images, caption=["one", "two"])
                found = self.members(path, "--force")
                expected = {"000000000.jpg": JPEG, "000000000.txt": b"one", "000000001.png": PNG, "000000001.txt": b"two"}
                self.assertEqual(found, expected)

    def test_conversations_of_every_form(self):
        asked = [("user", "q"), ("assistant", "a")]
        forms = {
            "from": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
            "role": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "parts": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in asked],
            "pairs": [{"user": "q", "assistant": "a"}],
            "lists": {"from": ["human", "gpt"], "value": ["q", "a"]},
            "json": json.dumps([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]),
        }
        for name, form in forms.items():
            with self.subTest(name):
                found = self.members(self.table(name + ".parquet", image=[WEBP], conversations=[form]), "--force")
                self.assertEqual(self.turns(found["000000000.json"]), asked)
                self.assertIn("000000000.webp", found)

    def test_question_and_answer(self):
        path = self.table("qa.parquet", picture=[PNG], q=["what?"], a=[["this", "that"]])
        found = self.members(path, "--question", "q", "--answer", "a")
        self.assertEqual(self.turns(found["000000000.json"]), [("user", "what?"), ("assistant", "this")])

    def test_rows_left_out_are_counted_by_reason(self):
        self.write("secret.png", PNG)
        os.mkdir(self.at("root"))
        self.write("root/a.png", PNG)
        images = ["a.png", "", "gone.png", "../secret.png", "a.png"]
        path = self.table("r.parquet", image=images, text=["x", "x", "x", "x", " "])
        self.assertEqual(list(self.members(path, "--image-root", self.at("root"))), ["000000000.png", "000000000.txt"])
        self.assertIn("4 of 5 rows left out: 1 with no image (first:", self.said)
        for reason in ("an image file that is not there", "leads out of --image-root", "1 with no text"):
            self.assertIn(reason, self.said)

    def test_conversations_that_facet_would_refuse(self):
        turns = [[("user", "q"), ("user", "q")], [("user", "<image><image>"), ("assistant", "a")], []]
        chats = [[{"role": role, "content": text} for role, text in row] for row in turns]
        path = self.table("c.parquet", image=[PNG] * 3, messages=chats)
        self.refuse(65, "no row can be used: 3 of 3 rows left out: 2 with turns", path)
        self.assertEqual(os.listdir(self.at("out")), [])

    def test_folders_of_save_to_disk(self):
        for split, name in (("train", "data-0.arrow"), ("test", "data-file.arrow")):
            self.table(f"saved/{split}/{name}", image=[PNG] * 3, text=[split] * 3)
            self.write(f"saved/{split}/state.json", json.dumps({"_data_files": [{"filename": name}], "_split": split}))
        self.write("saved/dataset_dict.json", json.dumps({"splits": ["train", "test"]}))
        self.refuse(64, "choose one with --split: test, train", self.at("saved"))
        for split in ("train", "test"):
            found = self.members(self.at("saved"), "--split", split, "--force")
            self.assertEqual([found[f"{i:09d}.txt"] for i in range(3)], [split.encode()] * 3)

    def test_folders_of_the_hub(self):
        for i in range(2):
            self.table(f"hub/data/train-0000{i}-of-00002.parquet", image=[PNG], text=[f"train {i}"])
        self.table("hub/data/test-00000-of-00001.parquet", image=[PNG], text=["test"])
        found = self.members(self.at("hub"), "--split", "train")
        self.assertEqual([found["000000000.txt"], found["000000001.txt"]], [b"train 0", b"train 1"])
        self.refuse(66, "no split dev; there are test, train", self.at("hub"), "--split", "dev", "--force")

    def test_shards_are_the_same_each_time_and_not_overwritten(self):
        path = self.table("s.parquet", image=[PNG] * 5, text=list("abcde"))
        self.members(path, "--samples-per-shard", 2)
        self.assertIn("out/s-{000000..000002}.tar'", self.said)
        read = lambda: [open(name, "rb").read() for name in sorted(glob.glob(self.at("out/*")))]
        before = read()
        self.refuse(64, "is there already", path)
        self.members(path, "--samples-per-shard", 2, "--force")
        self.assertEqual(read(), before)
        self.members(path, "--force")
        self.assertEqual(os.listdir(self.at("out")), ["s-000000.tar"])

    def test_what_cannot_be_read(self):
        path = self.table("x.parquet", pixels=[1], words=["a"])
        self.refuse(66, "is not there", self.at("gone"))
        self.refuse(65, "the columns are pixels, words", path)
        self.refuse(65, "no column foto; the columns are pixels, words", path, "--image", "foto")
        self.refuse(65, "no Parquet or Arrow file", self.write("bad.parquet", b"PAR1 nothing"))
        self.refuse(65, "no Parquet or Arrow file", self.write("bad.arrow", b"nothing at all"))
        good = self.table("y.parquet", image=[PNG], text=["a"])
        self.refuse(64, "named twice", good, good)
        self.refuse(64, "belong together", path, "--question", "words")

    def test_a_file_that_is_damaged_behind_its_schema(self):
        """Nothing is written then, and nothing of the shards begun stays."""
        for name in ("d.parquet", "d.arrow"):
            with self.subTest(name):
                path = self.table(name, image=[PNG + bytes(5000)] * 40, text=["x"] * 40)
                with open(path, "rb") as file:
                    content = bytearray(file.read())
                if name.endswith(".arrow"):
                    del content[len(content) // 2 :]
                else:
                    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
                self.refuse(65, "is damaged", self.write(name, bytes(content)))
                self.assertEqual(os.listdir(self.at("out")), [])

    def test_a_text_that_is_no_unicode(self):
        texts = pyarrow.array([b"fine", b"\xff\xfe"]).cast(pyarrow.binary()).view(pyarrow.string())
        self.refuse(65, "is damaged", self.table("u.parquet", image=[PNG] * 2, text=texts))
        chat = '[{"from": "human", "value": "\\ud800"}, {"from": "gpt", "value": "a"}]'
        self.refuse(65, "a text that is no Unicode", self.table("v.parquet", image=[PNG], conversations=[chat]))

    def test_columns_as_in_the_wild(self):
        """A system turn without text, an open last question, a second image, turns without any."""
        turn = lambda role, content: {"role": role, "content": content}
        whole = [turn("system", ""), turn("user", "q<image>"), turn("assistant", "a"), turn("user", "and?")]
        chats = [whole, None, whole]
        found = self.members(self.table("w.parquet", images=[[PNG], [PNG], [PNG, PNG]], messages=chats))
        self.assertEqual(self.turns(found["000000000.json"]), [("user", "q<image>"), ("assistant", "a"), ("user", "and?")])
        self.assertIn("2 of 3 rows left out: 1 with turns that are not", self.said)
        self.assertIn("1 with more than one image", self.said)

    def test_without_pyarrow(self):
        with mock.patch.dict(sys.modules, {"pyarrow.ipc": None}):
            self.refuse(69, "pip install pyarrow", self.at("any"))

    def run_program(self, *command):
        rights = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        done = subprocess.run(command, env={**os.environ, **rights}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=50)
        self.assertEqual(done.returncode, 0, done.stdout.decode(errors="replace")[-3000:])
        return done.stdout.decode()

    def test_facet_reads_the_shards(self):
        facet, tiny = os.path.join(BUILD, "facet"), self.at("tiny")
        self.run_program(os.path.join(BUILD, "make_tiny"), "--output", tiny, "--scenes", "8", "--seed", "1")
        with open(os.path.join(ROOT, "tests/golden/data/images/gray.jpg"), "rb") as file:
            image = file.read()
        chat = [{"user": "what?", "assistant": "a cat"}]
        self.members(self.table("f.parquet", image=[image] * 6, texts=[chat] * 6), "--samples-per-shard", 3)
        models = ["--lm_model_name_or_path", f"{tiny}/lm", "--vision_model_name_or_path", f"{tiny}/clip"]
        shards = "tar:" + self.at("out/s-{000000..000001}.tar")
        run = ["--dataset_names", shards, "--threads", "1", "--output_dir", self.at("run"), "--dry_run", "--check_all_samples"]
        self.assertIn("all good: 6 records", self.run_program(facet, "train", *models, "--data_path", f"{tiny}/data", *run))
