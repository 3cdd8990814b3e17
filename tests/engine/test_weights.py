"""Safetensors files, ours and others': read as 32-bit floats, or refused for a reason; nothing is read outside of them."""

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from penstock.engine.errors import BadModel
from penstock.engine.weights import LINE, Weights, aligned, read_file, write_safetensors

NUMBERS = np.array([[1.0, -2.5, 3.25], [0.0, 65504.0, 6e-8]], np.float32)


def written(path, header, data=b"", *, length=None):
    """A file with this header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def refused(act, *arguments):
    with pytest.raises(BadModel) as caught:
        act(*arguments)
    return str(caught.value)


def test_what_the_reference_implementation_writes_is_read(tmp_path):
    save_file({"a": NUMBERS, "b": NUMBERS.astype(np.float16)}, tmp_path / "model.safetensors", {"format": "pt"})
    weights = Weights.open(tmp_path)

    assert set(weights) == {"a", "b"}
    assert "a" in weights
    assert "c" not in weights
    np.testing.assert_array_equal(weights.take("a", (2, 3)), NUMBERS)
    np.testing.assert_array_equal(weights.take("b", (2, 3)), NUMBERS.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_the_reference_implementation_reads_what_is_written(tmp_path, dtype):
    write_safetensors(tmp_path / "x.safetensors", {"a": NUMBERS, "b": NUMBERS[0]}, dtype=dtype, metadata={"k": "v"})
    found = load_file(tmp_path / "x.safetensors")

    np.testing.assert_array_equal(found["a"], NUMBERS.astype(np.float32 if dtype == "F32" else np.float16))
    assert found["b"].shape == (3,)
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert file.metadata() == {"k": "v"}


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
@example([1.00390625, 1.01171875, -1.00390625, -1.01171875])  # ties: half way between two numbers of sixteen bits
def test_bf16_is_the_nearest_number_of_sixteen_bits_and_ties_go_to_even(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("bf16") / "model.safetensors"
    numbers = np.array(values, np.float32)
    write_safetensors(path, {"a": numbers}, dtype="BF16")
    got = Weights.open(path.parent).take("a", numbers.shape)

    bits = numbers.view(np.uint32).astype(np.uint64)
    down = bits & 0xFFFF0000
    half = (bits & 0xFFFF).astype(int) - 0x8000
    up = (half > 0) | ((half == 0) & (bits & 0x10000 != 0))
    want = (down + 0x10000 * up).astype(np.uint32).view(np.float32)
    nan = np.isnan(numbers)
    assert np.isnan(got[nan]).all()
    np.testing.assert_array_equal(got[~nan].view(np.uint32), want[~nan].view(np.uint32))


def test_f32_stays_in_the_file_and_the_rest_is_widened_once(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": NUMBERS, "b": NUMBERS})
    mapped = Weights.open(tmp_path)

    assert mapped.is_mapped("a")
    assert not mapped.is_mapped("c")
    assert not mapped.take("a", (2, 3)).flags.writeable
    assert isinstance(mapped.take("a", (2, 3)).base, np.ndarray)

    write_safetensors(tmp_path / "model.safetensors", {"a": NUMBERS}, dtype="F16")
    widened = Weights.open(tmp_path)
    assert not widened.is_mapped("a")
    assert widened.take("a", (2, 3)).flags.writeable


def test_f32_that_begins_at_an_odd_byte_is_copied(tmp_path):
    header = json.dumps({"a": entry(0, 24, (2, 3))}).encode()
    header += b" " * (-len(header) % 8 + 3)
    written(tmp_path / "model.safetensors", header, NUMBERS.tobytes())
    weights = Weights.open(tmp_path)

    assert not weights.is_mapped("a")
    np.testing.assert_array_equal(weights.take("a", (2, 3)), NUMBERS)


def test_a_tensor_can_be_put_into_a_part_of_a_larger_array(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": NUMBERS}, dtype="BF16")
    room = np.zeros((5, 3), np.float32)
    Weights.open(tmp_path).fill("a", room[1:3])

    np.testing.assert_allclose(room[1:3], NUMBERS, rtol=2**-8)
    assert not room[[0, 3, 4]].any()


@pytest.mark.parametrize("shape", [(1,), (7, 5), (64, 64), (3, 1, 2)])
def test_arrays_that_are_made_here_begin_at_a_cache_line(shape):
    array = aligned(shape)

    assert array.ctypes.data % LINE == 0
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (shape, np.float32, True)


def test_a_folder_without_weights_says_what_is_looked_for(tmp_path):
    assert "neither model.safetensors nor model.safetensors.index.json" in refused(Weights.open, tmp_path)


def test_missing_misshapen_and_integer_tensors_are_refused_by_name(tmp_path):
    save_file({"a": NUMBERS, "b": np.arange(3)}, tmp_path / "model.safetensors")
    weights = Weights.open(tmp_path)

    assert "lack the tensor 'z'" in refused(weights.take, "z", (2, 3))
    assert "'a' has the shape [2, 3], but config.json asks for [3, 2]" in refused(weights.take, "a", (3, 2))
    assert "'b' is stored as I64; supported are F32, F16, BF16" in refused(weights.check, "b", (3,))


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        ({"a": entry()}, b"1234567", "is truncated: its tensors take 8 bytes, it holds 7"),
        ({"a": entry()}, b"123456789", "followed by bytes that belong to no tensor"),
        ({"a": entry(), "b": entry(4, 12)}, b"x" * 12, "overlap others or leave a hole"),
        ({"a": entry(), "b": entry()}, b"x" * 8, "overlap others or leave a hole"),
        ({"a": entry(), "b": entry(12, 20)}, b"x" * 20, "overlap others or leave a hole"),
        ({"a": entry(4, 12)}, b"x" * 12, "(expected to begin at 0)"),
        ({"a": entry(8, 0)}, b"x" * 8, "overlap others or leave a hole"),
        ({"a": entry(0, -8)}, b"", "overlap others or leave a hole"),
        ({"a": entry(shape=(3,))}, b"x" * 8, "8 bytes do not hold the shape [3] in F32"),
        ({"a": entry(shape=(-2,))}, b"x" * 8, "negative extent"),
        ({"a": entry(shape=(2**62, 4))}, b"x" * 8, "do not hold the shape"),
        ({"a": {"dtype": "F32"}}, b"", "tensor 'a' is not as it should be: Object missing required field `shape`"),
        ({"a": 7}, b"", "tensor 'a' is not as it should be"),
        (b"[1]", b"", "is not as it should be"),
        (b"{", b"", "is not as it should be"),
        (b'{"\xff": 1}', b"", "is not as it should be"),
        (b'{"a":' + b"[" * 100_000, b"", "is not as it should be"),
    ],
)
def test_a_file_that_is_not_whole_and_consistent_is_refused(tmp_path, header, data, says):
    assert says in refused(read_file, written(tmp_path / "x.safetensors", header, data))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has 0 bytes"),
        (b"1234567", "has 7 bytes"),
        (struct.pack("<Q", 3) + b"{}", "announces a header of 3 bytes, but has 2"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "announces a header of 18446744073709551615 bytes"),
    ],
)
def test_a_file_that_is_too_short_is_refused(tmp_path, content, says):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)

    assert says in refused(read_file, path)


def test_a_header_longer_than_the_format_allows_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(200_000_000)  # sparse: takes no room on the disk

    assert "announces a header of 100000001 bytes" in refused(read_file, path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert "cannot be read" in refused(read_file, tmp_path / "none.safetensors")


def test_a_dtype_of_tomorrow_may_be_in_the_file_as_long_as_it_is_not_needed(tmp_path):
    header = {"a": entry(), "b": entry(8, 11, (6,), "F4")}
    written(tmp_path / "model.safetensors", header, NUMBERS[0, :2].tobytes() + b"123")
    weights = Weights.open(tmp_path)

    np.testing.assert_array_equal(weights.take("a", (2,)), NUMBERS[0, :2])
    assert "stored as F4" in refused(weights.take, "b", (6,))


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_within_its_bytes(tmp_path_factory, data):
    """Whatever is changed, there is no other error; and what is accepted, the reference implementation accepts too."""
    path = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    write_safetensors(path, {"a": NUMBERS, "b": NUMBERS[0]}, dtype=data.draw(st.sampled_from(["F32", "F16", "BF16"])))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    path.write_bytes(content)
    try:
        stored = read_file(path)
    except BadModel:
        return
    assert sum(len(one.raw) for one in stored.values()) <= len(content)
    assert all(min(one.shape, default=1) >= 0 for one in stored.values())
    try:
        with safe_open(path, framework="numpy") as file:
            assert set(file.keys()) == set(stored)
    except SafetensorError as error:
        # Ours is the more lenient about dtypes of tomorrow and metadata, which nothing here reads.
        assert "variant" in str(error) or "metadata" in str(error) or "invalid type" in str(error), error  # noqa: PT017


def sharded(folder, weight_map):
    write_safetensors(folder / "one.safetensors", {"a": NUMBERS})
    write_safetensors(folder / "two.safetensors", {"b": NUMBERS + 1}, dtype="F16")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_a_model_in_several_files_is_one_model(tmp_path):
    weights = Weights.open(sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}))

    np.testing.assert_array_equal(weights.take("a", (2, 3)), NUMBERS)
    np.testing.assert_array_equal(weights.take("b", (2, 3)), (NUMBERS + 1).astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    "name",
    [
        "../one.safetensors",
        "/etc/passwd",
        "/one.safetensors",
        "deeper/one.safetensors",
        "..\\one.safetensors",
        "one.safetensors\0",
        "..",
        "",
        "config.json",
    ],
)
def test_an_index_reaches_no_file_outside_of_its_folder_and_no_other_kind(tmp_path, name):
    inside = tmp_path / "model"
    (inside / "deeper").mkdir(parents=True)
    write_safetensors(tmp_path / "one.safetensors", {"a": NUMBERS})
    write_safetensors(inside / "deeper" / "one.safetensors", {"a": NUMBERS})

    assert "only a .safetensors file in the same folder is read" in refused(Weights.open, sharded(inside, {"a": name}))


@pytest.mark.parametrize(
    ("weight_map", "says"),
    [
        ({"a": "three.safetensors"}, "names the file 'three.safetensors', which is not there"),
        ({"a": "two.safetensors"}, "says that two.safetensors holds the tensor 'a', but it does not"),
        ({"a": 7}, "model.safetensors.index.json is not as it should be"),
        (None, "model.safetensors.index.json is not as it should be"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path, weight_map, says):
    assert says in refused(Weights.open, sharded(tmp_path, weight_map))


def test_an_index_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    folder = sharded(tmp_path, {"a": "one.safetensors"})

    def broken(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(folder), "read_bytes", broken)
    assert "cannot be read: Permission denied" in refused(Weights.open, folder)


def test_data_begin_at_a_cache_line_so_that_they_can_be_used_in_place(tmp_path):
    for count in range(1, 12):
        path = tmp_path / f"{count}.safetensors"
        write_safetensors(path, {f"t{number}": NUMBERS for number in range(count)})
        (length,) = struct.unpack("<Q", path.read_bytes()[:8])
        assert (8 + length) % LINE == 0
        assert path.stat().st_size == 8 + length + count * 4 * math.prod(NUMBERS.shape)
