#!/usr/bin/env python3
"""Write the corpus: one small file for each rule of the format and each way to break it.

The files are committed, and tests read those; this script is for reading what is in them and for
adding more. `make.py` writes all of them and expected.tsv again; `make.py --check` only compares,
and fails where something differs.

expected.tsv has a line for each file: its path, a tab, and `ok` or a part of the message with which
the file is refused.
"""
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = {}  # path: (bytes, expectation)


def header(json, length=None):
    """The length (of the JSON, or as given) and the JSON."""
    if isinstance(json, str):
        json = json.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(json) if length is None else length) + json


def data(n):
    return bytes(i % 251 for i in range(n))


def add(path, content, expectation):
    if path in FILES:
        sys.exit(f"{path} is there twice")
    FILES[path] = (content, expectation)


def valid(name, json, size=0):
    add(f"valid/{name}.safetensors", header(json) + data(size), "ok")


def invalid(name, json, message, size=0):
    add(f"invalid/{name}.safetensors", header(json) + data(size), message)


def raw(name, content, message):
    add(f"invalid/{name}.safetensors", content, message)


def tensor(name, dtype="U8", shape="[1]", offsets="[0,1]", more=""):
    """A member of a header's object; shape and offsets are JSON text, so that they can be wrong."""
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}{more}}}'


def one(**fields):
    """A header of one tensor called a."""
    return "{" + tensor("a", **fields) + "}"


def fields(text):
    """A header of one tensor with these members."""
    return '{"a":{' + text + "}}"


def nested(levels, opening, closing, leaf):
    return opening * levels + leaf + closing * levels


BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}


def valid_files():
    valid("empty", "{}")
    valid("empty-padded", "{}      ")
    valid("empty-metadata", '{"__metadata__":{}}')
    valid("metadata", '{"__metadata__":{"format":"pt","":"","z":"\\n\\u0000","a":"é"}}')
    valid("metadata-last", "{" + tensor("a") + ',"__metadata__":{"k":"v"}}', 1)
    valid("metadata-escaped-key", '{"\\u005f_metadata__":{"k":"v"}}')
    for dtype, bits in BITS.items():
        size = 4 * bits // 8
        valid(f"dtype-{dtype}", one(dtype=dtype, shape="[2,2]", offsets=f"[0,{size}]"), size)
    valid("dtype-escaped", fields('"d\\u0074ype":"\\u0055\\u0038","shape":[1],"data_offsets":[0,1]'), 1)
    valid("scalar", one(dtype="F32", shape="[]", offsets="[0,4]"), 4)
    valid("rank-40", one(shape="[" + ",".join(["1"] * 40) + "]"), 1)
    valid("keys-in-any-order", fields('"data_offsets":[0,1],"shape":[1],"dtype":"U8"'), 1)
    valid("key-unknown", one(more=',"x":[1e999,-0,{"y":null,"":[]},"\\ud83d\\ude00"],"Dtype":1'), 1)
    valid("key-unknown-huge-number", one(more=',"x":' + "9" * 400 + '.5E+4'), 1)
    valid("depth-125-arrays", one(more=',"x":' + nested(125, "[", "]", "")), 1)
    valid("depth-125-objects", one(more=',"x":' + nested(124, '{"":', "}", "{}")), 1)
    valid("white-space-within", '{\n\t"a" :\r\n{ "dtype":"U8" , "shape":[ 1 ] ,"data_offsets":[ 0 , 1 ]} }', 1)
    valid("length-no-multiple-of-8", one(), 1)
    valid("data-unaligned", "{" + tensor("a") + "," + tensor("b", "F64", "[1]", "[1,9]") + "}", 9)
    valid("offset-order-not-name-order",
          "{" + tensor("a", offsets="[1,2]") + "," + tensor("b", offsets="[0,1]") + "}", 2)
    valid("names-not-sorted",
          "{" + tensor("b", offsets="[0,1]") + "," + tensor("a", offsets="[1,2]") + "}", 2)
    valid("name-empty", "{" + tensor("") + "}", 1)
    valid("name-nul", "{" + tensor("a\\u0000b") + "," + tensor("a", offsets="[1,2]") + "}", 2)
    valid("name-control", "{" + tensor("\\n\\u001b[31m\\u007f") + "}", 1)
    valid("name-slash", "{" + tensor("a/../b") + "," + tensor("..", offsets="[1,2]") + "}", 2)
    valid("name-percent", "{" + tensor("a%2Fb") + "," + tensor("a/b", offsets="[1,2]") + "}", 2)
    valid("name-surrogate-pair", "{" + tensor("\\uD834\\uDD1E") + "}", 1)
    valid("name-utf8", "{" + tensor("\u00e9\u20ac\U0001d11e\uffff") + "}", 1)
    valid("name-long", "{" + tensor("n" * 5000) + "}", 1)
    valid("name-case", "{" + tensor("A") + "," + tensor("a", offsets="[1,2]") + "}", 2)
    valid("name-prefix", "{" + tensor("a.b") + "," + tensor("a", offsets="[1,2]") + "}", 2)
    valid("zero-size", one(shape="[0]", offsets="[0,0]"))
    valid("zero-size-share-an-offset", "{" + ",".join([
        tensor("z4", "F32", "[3,0]", "[3,3]"), tensor("b", offsets="[2,3]"),
        tensor("z2", "U8", "[0]", "[2,2]"), tensor("z1", "I64", "[0]", "[2,2]"),
        tensor("a", shape="[2]", offsets="[0,2]"), tensor("z0", "U8", "[0]", "[0,0]")]) + "}", 3)
    valid("overflow-after-zero", one(shape="[0,9223372036854775808,4]", offsets="[0,0]"))
    valid("dimension-2-64-less-1", one(shape="[0,18446744073709551615]", offsets="[0,0]"))
    valid("sub-byte-whole", "{" + tensor("a", "F4", "[2,3]", "[0,3]") + ","
          + tensor("b", "F6_E3M2", "[4]", "[3,6]") + "}", 6)


def invalid_lengths():
    raw("length-file-empty", b"", "shorter than 8 bytes")
    raw("length-file-of-7-bytes", b"\x02\0\0\0\0\0\0", "shorter than 8 bytes")
    raw("length-0", header(b""), "header length is 0")
    raw("length-0-with-data", header(b"{}", 0), "header length is 0")
    raw("length-above-limit", header(b"{}", 100000001), "header length 100000001 is above 100000000")
    raw("length-2-64-less-1", header(b"{}", 2**64 - 1),
        "header length 18446744073709551615 is above 100000000")
    raw("length-big-endian", struct.pack(">Q", 2) + b"{}", "is above 100000000")
    raw("length-past-end", header(b"{}", 3), "header length 3 is past the end of the file")
    raw("length-at-limit-past-end", header(b"{}", 100000000),
        "header length 100000000 is past the end of the file")
    raw("length-only", struct.pack("<Q", 2), "header length 2 is past the end of the file")
    raw("length-cuts-json", header(b'{"__metadata__":{}}', 18), "expected ',' or '}', found the end")


def invalid_json():
    at = "invalid JSON at byte "
    start = at + "8: expected '{' at the start, found "
    behind = "expected only spaces behind the closing '}', found "
    key = "expected a key in double quotes, found "
    for name, json, message in [
        ("start-space", " {}", start + "byte 0x20"),
        ("start-newline", "\n{}", start + "byte 0x0a"),
        ("start-bom", "\ufeff{}", start + "byte 0xef"),
        ("start-array", "[]", start + "'['"),
        ("start-string", '"a"', start + "'\"'"),
        ("start-null", "null", start + "'n'"),
        ("start-nul", "\0{}", start + "byte 0x00"),
        ("end-newline", "{}\n", at + "10: " + behind + "byte 0x0a"),
        ("end-tab", "{} \t", at + "11: " + behind + "byte 0x09"),
        ("end-nul", "{}\0\0", at + "10: " + behind + "byte 0x00"),
        ("end-second-object", "{}{}", at + "10: " + behind + "'{'"),
        ("end-brace", "{}}", at + "10: " + behind + "'}'"),
        ("unfinished", "{", at + "9: " + key + "the end"),
        ("unfinished-spaces", "{  ", at + "11: " + key + "the end"),
        ("unfinished-string", '{"a', at + "9: a string without an end"),
        ("unfinished-value", '{"a":', at + "13: expected a value, found the end"),
        ("comma-trailing", '{"__metadata__":{"a":"b",}}', key + "'}'"),
        ("comma-trailing-array", one(shape="[1,]"), "expected a value, found ']'"),
        ("comma-leading", '{,"__metadata__":{}}', key + "','"),
        ("comma-twice", '{"__metadata__":{},,"a":1}', key + "','"),
        ("comma-missing", one(shape="[1 1]"), "expected ',' or ']', found '1'"),
        ("comma-missing-object", '{"__metadata__":{} "a":1}', "expected ',' or '}', found '\"'"),
        ("comma-for-colon", '{"__metadata__",{}}', "expected ':' behind a key, found ','"),
        ("colon-missing", '{"__metadata__"{}}', "expected ':' behind a key, found '{'"),
        ("colon-twice", '{"__metadata__"::{}}', "expected a value, found ':'"),
        ("colon-chain", '{"a":"b":"c"}', "expected ',' or '}', found ':'"),
        ("colon-in-array", one(shape='["a":1]'), "expected ',' or ']', found ':'"),
        ("key-alone", '{"a"}', "expected ':' behind a key, found '}'"),
        ("key-unquoted", "{a:1}", key + "'a'"),
        ("key-single-quotes", "{'a':1}", key + "'''"),
        ("key-number", "{1:1}", key + "'1'"),
        ("key-object", "{{}:1}", key + "'{'"),
        ("bracket-mismatch", one(shape="[1}"), "expected ',' or ']', found '}'"),
        ("brace-mismatch", '{"__metadata__":{]}', key + "']'"),
        ("comment", '{"__metadata__":{}/* */}', "expected ',' or '}', found '/'"),
        ("comment-line", '{//\n"__metadata__":{}}', key + "'/'"),
        ("space-form-feed", '{\f"__metadata__":{}}', key + "byte 0x0c"),
        ("space-no-break", '{\u00a0"__metadata__":{}}', key + "byte 0xc2"),
        ("nul-within", '{\0"__metadata__":{}}', key + "byte 0x00"),
        ("literal-capital", one(more=',"x":True'), "expected a value, found 'T'"),
        ("literal-cut", one(more=',"x":nul'), "expected a value, found 'n'"),
        ("literal-too-long", one(more=',"x":nullx'), "expected ',' or '}', found 'x'"),
        ("literal-nan", one(more=',"x":NaN'), "expected a value, found 'N'"),
        ("literal-infinity", one(more=',"x":-Infinity'), "expected a digit behind '-', found 'I'"),
        ("number-leading-zero-ignored", one(more=',"x":01'), "a number with a leading zero"),
        ("number-plus", one(more=',"x":+1'), "expected a value, found '+'"),
        ("number-point-first", one(more=',"x":.5'), "expected a value, found '.'"),
        ("number-point-last", one(more=',"x":1.'), "expected a digit behind the decimal point"),
        ("number-exponent-empty", one(more=',"x":1e'), "expected a digit in the exponent"),
        ("number-hex", one(more=',"x":0x1F'), "expected ',' or '}', found 'x'"),
        ("number-minus-alone", one(more=',"x":-'), "expected a digit behind '-'"),
        ("depth-126-arrays", one(more=',"x":' + nested(126, "[", "]", "")),
         "objects and arrays nested deeper than 127 levels"),
        ("depth-126-objects", one(more=',"x":' + nested(125, '{"":', "}", "{}")),
         "objects and arrays nested deeper than 127 levels"),
        ("depth-unclosed", '{"a":' + "[" * 3000, "objects and arrays nested deeper than 127 levels"),
    ]:
        invalid("json-" + name, json, message, 1 if "data_offsets" in json else 0)


def invalid_strings():
    def named(name):
        return b'{"' + name + b'":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'

    escape = "a backslash that begins none of JSON's escapes"
    for name, text, message in [
        ("newline", b"a\nb", "control character 0x0a in a string"),
        ("tab", b"a\tb", "control character 0x09 in a string"),
        ("nul", b"a\0b", "control character 0x00 in a string"),
        ("unit-separator", b"\x1f", "control character 0x1f in a string"),
        ("escape-x", b"\\x41", escape),
        ("escape-quote", b"\\'", escape),
        ("escape-capital-u", b"\\U0041", escape),
        ("escape-u-short", b"\\u41", "\\u without four hex digits"),
        ("escape-u-no-hex", b"\\u00g1", "\\u without four hex digits"),
        ("surrogate-high-alone", b"\\ud800", "lone surrogate \\ud800"),
        ("surrogate-low-alone", b"\\udc00", "lone surrogate \\udc00"),
        ("surrogate-high-twice", b"\\ud800\\ud800", "lone surrogate \\ud800"),
        ("surrogate-swapped", b"\\udd1e\\ud834", "lone surrogate \\udd1e"),
        ("utf8-stray-continuation", b"\x80", "not UTF-8: byte 0x80 in a string"),
        ("utf8-ff", b"\xff", "not UTF-8: byte 0xff in a string"),
        ("utf8-latin-1", b"caf\xe9", "not UTF-8: byte 0xe9 in a string"),
        ("utf8-cut", b"\xe2\x82", "not UTF-8: byte 0xe2 in a string"),
        ("utf8-overlong-2", b"\xc0\xaf", "not UTF-8: byte 0xc0 in a string"),
        ("utf8-overlong-3", b"\xe0\x80\xaf", "not UTF-8: byte 0xe0 in a string"),
        ("utf8-overlong-4", b"\xf0\x80\x80\xaf", "not UTF-8: byte 0xf0 in a string"),
        ("utf8-overlong-nul", b"\xc0\x80", "not UTF-8: byte 0xc0 in a string"),
        ("utf8-surrogate", b"\xed\xa0\x80", "not UTF-8: byte 0xed in a string"),
        ("utf8-above-10ffff", b"\xf4\x90\x80\x80", "not UTF-8: byte 0xf4 in a string"),
        ("utf8-5-bytes", b"\xf8\x88\x80\x80\x80", "not UTF-8: byte 0xf8 in a string"),
    ]:
        invalid("string-" + name, named(text), message, 1)
    invalid("string-utf8-in-metadata", b'{"__metadata__":{"k":"\xff"}}', "not UTF-8: byte 0xff")
    invalid("string-utf8-in-ignored-value", one(more=',"x":"').encode()[:-2] + b'\xc1\xbf"}}',
            "not UTF-8: byte 0xc1", 1)


def invalid_duplicates():
    two = "occurs twice in one object"
    invalid("duplicate-tensor", "{" + tensor("a") + "," + tensor("a", offsets="[1,2]") + "}",
            f'key "a" {two}', 2)
    invalid("duplicate-tensor-same", "{" + tensor("a") + "," + tensor("a") + "}", f'key "a" {two}', 1)
    invalid("duplicate-tensor-escaped",
            "{" + tensor("a") + "," + tensor("\\u0061", offsets="[1,2]") + "}", f'key "a" {two}', 2)
    many = [tensor(f"t{i}", offsets=f"[{i},{i + 1}]") for i in range(20)]
    invalid("duplicate-tensor-among-many",
            "{" + ",".join(many) + "," + tensor("t7", offsets="[20,21]") + "}", f'key "t7" {two}', 21)
    invalid("duplicate-field", one(more=',"dtype":"U8"'), f'key "dtype" {two}', 1)
    invalid("duplicate-field-escaped", one(more=',"\\u0073hape":[1]'), f'key "shape" {two}', 1)
    invalid("duplicate-metadata", '{"__metadata__":{},"__metadata__":{}}', f'key "__metadata__" {two}')
    invalid("duplicate-metadata-key", '{"__metadata__":{"a":"1","a":"2"}}', f'key "a" {two}')
    invalid("duplicate-in-ignored-value", one(more=',"x":[{"y":{"":1,"":1}}]'), f'key "" {two}', 1)


def invalid_tensors():
    entry = 'tensor "a": expected an object with dtype, shape and data_offsets, found '
    for kind, value in [("an array", '["U8",[1],[0,1]]'), ("a string", '"U8"'), ("a number", "1"),
                        ("null", "null"), ("true", "true")]:
        invalid("tensor-is-" + kind.split()[-1], '{"a":' + value + "}", entry + kind, 1)
    invalid("tensor-is-empty", '{"a":{}}', 'tensor "a": no dtype')
    invalid("dtype-missing", fields('"shape":[1],"data_offsets":[0,1]'), 'tensor "a": no dtype', 1)
    invalid("shape-missing", fields('"dtype":"U8","data_offsets":[0,1]'), 'tensor "a": no shape', 1)
    invalid("offsets-missing", fields('"dtype":"U8","shape":[1]'), 'tensor "a": no data_offsets', 1)
    invalid("dtype-key-case", fields('"DType":"U8","shape":[1],"data_offsets":[0,1]'),
            'tensor "a": no dtype', 1)
    invalid("dtype-number", fields('"dtype":8,"shape":[1],"data_offsets":[0,1]'),
            'tensor "a": dtype is a number, not a string', 1)
    invalid("dtype-null", fields('"dtype":null,"shape":[1],"data_offsets":[0,1]'),
            'tensor "a": dtype is null, not a string', 1)
    for dtype in ["", "u8", "U8 ", "F128", "float32", "U4", "F8", "U8\\u0000", "C128"]:
        name = {"": "empty", "U8 ": "space", "U8\\u0000": "nul", "u8": "lower-case"}.get(dtype, dtype)
        shown = dtype.replace("\\u0000", "\\x00")
        invalid("dtype-unknown-" + name, one(dtype=dtype),
                f'tensor "a": dtype "{shown}" is not one of the format\'s', 1)
    for name, shape, message in [
        ("number", "1", "shape is a number, not an array"),
        ("null", "null", "shape is null, not an array"),
        ("object", "{}", "shape is an object, not an array"),
        ("string", '"[1]"', "shape is a string, not an array"),
        ("holds-string", '[1,"1"]', "shape[1] is a string, not an integer"),
        ("holds-array", "[[1]]", "shape[0] is an array, not an integer"),
        ("holds-null", "[null]", "shape[0] is null, not a plain integer"),
        ("holds-true", "[true]", "shape[0] is true, not a plain integer"),
        ("negative", "[-1]", "shape[0] is -1, not a plain integer"),
        ("negative-zero", "[1,-0]", "shape[1] is -0, not a plain integer"),
        ("fraction", "[1.0]", "shape[0] is 1.0, not a plain integer"),
        ("exponent", "[1e0]", "shape[0] is 1e0, not a plain integer"),
        ("2-64", "[18446744073709551616]", "shape[0] is 18446744073709551616, not a plain integer"),
        ("huge", "[" + "9" * 100 + "]", "9..., not a plain integer"),
    ]:
        invalid("shape-" + name, one(shape=shape), 'tensor "a": ' + message
                if not message.startswith("9") else message, 1)
    invalid("shape-leading-zero", one(shape="[01]"), "a number with a leading zero", 1)
    for name, offsets, message in [
        ("number", "0", "data_offsets is a number, not an array"),
        ("object", '{"begin":0,"end":1}', "data_offsets is an object, not an array"),
        ("empty", "[]", "data_offsets has 0 elements, not 2"),
        ("one", "[0]", "data_offsets has 1 elements, not 2"),
        ("three", "[0,1,2]", "data_offsets has 3 elements, not 2"),
        ("string", '["0","1"]', "data_offsets[0] is a string, not an integer"),
        ("negative", "[-1,0]", "data_offsets[0] is -1, not a plain integer"),
        ("negative-zero", "[-0,1]", "data_offsets[0] is -0, not a plain integer"),
        ("fraction", "[0,1.0]", "data_offsets[1] is 1.0, not a plain integer"),
        ("exponent", "[0,1E0]", "data_offsets[1] is 1E0, not a plain integer"),
        ("2-64", "[0,18446744073709551616]", "data_offsets[1] is 18446744073709551616, not"),
        ("swapped", "[1,0]", "data_offsets [1,0] end before they begin"),
    ]:
        invalid("offsets-" + name, one(offsets=offsets), 'tensor "a": ' + message, 1)
    invalid("offsets-leading-zero", one(offsets="[00,1]"), "a number with a leading zero", 1)


def invalid_sizes():
    product = "the product of the shape overflows 64 bits at shape"
    invalid("size-too-small", one(dtype="F32", shape="[2,3]", offsets="[0,23]"),
            'tensor "a": shape [2,3] of F32 takes 24 bytes, but data_offsets [0,23] span 23', 23)
    invalid("size-too-large", one(dtype="U8", shape="[2]", offsets="[0,3]"),
            'tensor "a": shape [2] of U8 takes 2 bytes, but data_offsets [0,3] span 3', 3)
    invalid("size-scalar-empty", one(dtype="F32", shape="[]", offsets="[0,0]"),
            'tensor "a": shape [] of F32 takes 4 bytes, but data_offsets [0,0] span 0')
    invalid("size-zero-with-bytes", one(shape="[0]"),
            'tensor "a": shape [0] of U8 takes 0 bytes, but data_offsets [0,1] span 1', 1)
    invalid("size-F4-half-byte", one(dtype="F4", shape="[3]", offsets="[0,2]"),
            'tensor "a": shape [3]: 3 elements of F4, 4 bits each, are no whole number of bytes', 2)
    invalid("size-F6-scalar", one(dtype="F6_E2M3", shape="[]", offsets="[0,1]"),
            "1 elements of F6_E2M3, 6 bits each, are no whole number of bytes", 1)
    invalid("overflow-before-zero", one(shape="[9223372036854775808,4,0]", offsets="[0,0]"),
            f"{product}[1], which is 4")
    invalid("overflow-to-zero", one(shape="[4294967296,4294967296]", offsets="[0,0]"),
            f"{product}[1], which is 4294967296")
    invalid("overflow-in-bits", one(shape="[2305843009213693952]", offsets="[0,0]"),
            "2305843009213693952 elements of U8, 8 bits each, overflow 64 bits")
    invalid("overflow-in-bits-wraps-to-size", one(dtype="F64", shape="[288230376151711745]",
            offsets="[0,8]"), "elements of F64, 64 bits each, overflow 64 bits", 8)


def invalid_layouts():
    invalid("hole-at-start", one(offsets="[1,2]"),
            'tensor "a": begins at byte 1 of the data: a hole', 2)
    invalid("hole-between", "{" + tensor("b", offsets="[3,4]") + "," + tensor("a") + "}",
            'tensor "b": begins at byte 3 of the data, but tensor "a" before it ends at 1: '
            "a hole of 2 bytes", 4)
    invalid("hole-before-zero-size", "{" + tensor("a") + "," + tensor("z", "U8", "[0]", "[2,2]") + "}",
            'tensor "z": begins at byte 2 of the data, but tensor "a" before it ends at 1', 2)
    invalid("overlap", "{" + tensor("b", "U8", "[2]", "[1,3]") + "," + tensor("a", "U8", "[2]", "[0,2]")
            + "}", 'tensor "b": data_offsets [1,3] overlap tensor "a" at [0,2]', 3)
    invalid("overlap-same", "{" + tensor("a") + "," + tensor("b") + "}",
            'tensor "b": data_offsets [0,1] overlap tensor "a" at [0,1]', 1)
    invalid("overlap-zero-size-within",
            "{" + tensor("a", "U8", "[2]", "[0,2]") + "," + tensor("z", "U8", "[0]", "[1,1]") + "}",
            'tensor "z": data_offsets [1,1] overlap tensor "a" at [0,2]', 2)
    invalid("end-trailing-bytes", one(), 'tensor "a": the last one, ends at byte 1 of the data, but 3 '
            "bytes follow the header: 2 trailing bytes", 3)
    invalid("end-truncated", one(dtype="F32", shape="[2]", offsets="[0,8]"),
            'tensor "a": ends at byte 8 of the data, past the end of the file, which has 7', 7)
    invalid("end-no-data", one(), 'tensor "a": ends at byte 1 of the data, past the end of the file')
    invalid("end-empty-with-data", "{}", "no tensors, but 1 bytes of data behind the header", 1)
    invalid("end-far", one(offsets="[18446744073709551614,18446744073709551615]"),
            'tensor "a": begins at byte 18446744073709551614 of the data: a hole', 1)
    invalid("end-2-60", one(shape="[1152921504606846976]", offsets="[0,1152921504606846976]"),
            "ends at byte 1152921504606846976 of the data, past the end of the file, which has 1", 1)


def invalid_metadata():
    wants = "__metadata__: expected an object of strings, found "
    for kind, value in [("null", "null"), ("an array", "[]"), ("a string", '"{}"'), ("a number", "0"),
                        ("false", "false")]:
        invalid("metadata-is-" + kind.split()[-1], '{"__metadata__":' + value + "}", wants + kind)
    for kind, value in [("a number", "1"), ("null", "null"), ("an object", "{}"), ("an array", '["v"]'),
                        ("true", "true")]:
        invalid("metadata-value-" + kind.split()[-1], '{"__metadata__":{"k":' + value + "}}",
                f'__metadata__: the value of "k" is {kind}, not a string')
    invalid("metadata-is-tensor", "{" + tensor("__metadata__") + "}",
            '__metadata__: the value of "shape" is an array, not a string', 1)


def outputs():
    """Every file of the corpus: path to bytes."""
    for make in [valid_files, invalid_lengths, invalid_json, invalid_strings, invalid_duplicates,
                 invalid_tensors, invalid_sizes, invalid_layouts, invalid_metadata]:
        make()
    files = {path: content for path, (content, _) in FILES.items()}
    files["expected.tsv"] = "".join(f"{path}\t{FILES[path][1]}\n" for path in sorted(FILES)).encode()
    return files


def main():
    files = outputs()
    there = {str(p.relative_to(HERE)): p for p in HERE.glob("*/*.safetensors")}
    there["expected.tsv"] = HERE / "expected.tsv"
    if sys.argv[1:] == ["--check"]:
        wrong = [path for path in sorted(files.keys() | there.keys())
                 if path not in files or not there.get(path, HERE / path).exists()
                 or there[path].read_bytes() != files[path]]
        sys.exit(f"differ from what make.py writes: {' '.join(wrong)}" if wrong else 0)
    for path in there.keys() - files.keys():
        there[path].unlink()
    for path, content in files.items():
        (HERE / path).parent.mkdir(exist_ok=True)
        (HERE / path).write_bytes(content)
    print(f"{len(FILES)} files")


if __name__ == "__main__":
    main()
