"""Files of the site become passages with page or line; what cannot be read says why and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.manuals import reading
from broker.manuals.cutting import cut, paragraphs, passages
from broker.manuals.reading import BadManual, files_below, read_manual
from schemas.manuals import MAX_PASSAGE
from tests.broker.manuals.pdfs import write_pdf

PAGES = [
    ["4.2 Lubrication", "Grease the drive-end bearings every 2000 h. A hot bear-", "ing lacks grease."],
    ["Cavitation sounds like gravel. Clean the suction strainer (DN 80)."],
]


def test_a_pdf_is_cut_page_by_page(tmp_path: Path) -> None:
    """Each passage has its page and heading; a word cut at the line's end is whole again."""
    read = read_manual(write_pdf(tmp_path / "pump.pdf", PAGES))
    assert (read.kind, read.pages, read.notes) == ("manual", 2, [])
    assert [(one.page, one.heading, one.text) for one in read.passages] == [
        (1, "4.2 Lubrication", "Grease the drive-end bearings every 2000 h. A hot bearing lacks grease."),
        (2, "", "Cavitation sounds like gravel. Clean the suction strainer (DN 80)."),
    ]


def test_pages_without_text_are_told(tmp_path: Path) -> None:
    """A drawing between pages of text is counted; a scan has nothing to import."""
    read = read_manual(write_pdf(tmp_path / "mixed.pdf", [PAGES[0], [], []]))
    assert read.notes == ["2 of 3 pages have no text and cannot be found"]
    with pytest.raises(BadManual, match=r"scan\.pdf: its 2 pages have no text \(a scan\?\); let a text recognition"):
        read_manual(write_pdf(tmp_path / "scan.pdf", [[], []]))


def encrypted(path: Path, password: str) -> Path:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(write_pdf(path, PAGES)))
    writer.encrypt(password, "owner", algorithm="AES-256")
    writer.write(path)
    return path


def test_an_encrypted_pdf_needs_no_password_or_is_refused(tmp_path: Path) -> None:
    """What every viewer opens is read; what asks for a password is refused."""
    assert len(read_manual(encrypted(tmp_path / "open.pdf", "")).passages) == 2
    with pytest.raises(BadManual, match="it is encrypted; save it without a password"):
        read_manual(encrypted(tmp_path / "shut.pdf", "secret"))


@pytest.mark.parametrize("how", ["cut", "empty", "text", "zeros"])
def test_a_damaged_pdf_is_refused(tmp_path: Path, how: str) -> None:
    """Half a file, nothing, another kind of file: one line that names it, and no traceback."""
    path = write_pdf(tmp_path / "bad.pdf", PAGES)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:150], "empty": b"", "text": b"hello", "zeros": bytes(4096)}[how])
    with pytest.raises(BadManual, match=r"bad\.pdf: it (cannot be read as a PDF|is damaged)"):
        read_manual(path)


def test_a_file_that_kills_its_reader_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of the process that reads may run out of memory or time; the import goes on."""
    path = write_pdf(tmp_path / "heavy.pdf", PAGES)

    def greedy(*_: object) -> None:
        bytearray(1 << 40)

    monkeypatch.setattr(reading, "pdf_passages", greedy)
    with pytest.raises(BadManual, match="it needs more memory than an import may take"):
        read_manual(path)

    def endless(*_: object) -> None:
        while True:
            pass

    monkeypatch.setattr(reading, "pdf_passages", endless)
    monkeypatch.setattr(reading, "_SECONDS", 1)
    with pytest.raises(BadManual, match="it took too long"):
        read_manual(path)


def test_markdown_knows_its_headings(tmp_path: Path) -> None:
    """Headings stand beside passages, list items are passages, marks and tables' rules are gone."""
    path = tmp_path / "notes.md"
    path.write_text(
        "# Pump P101\n\nThe **drive-end** bearing is [greased](x.html) each\nquarter.\n\n## Alarms\n\n"
        + "- High vibration: "
        + "check the coupling. " * 9
        + "\n- Low suction: "
        + "check the strainer. " * 9
        + "\n\n---\n",
        encoding="utf-8",
    )
    found = read_manual(path).passages
    assert [(one.heading, one.line) for one in found] == [("Pump P101", 3), ("Alarms", 8), ("Alarms", 9)]
    assert found[0].text == "The drive-end bearing is greased each quarter."


@pytest.mark.parametrize(
    ("mark", "encoding"), [("utf-8", None), ("utf-8-sig", None), ("utf-16", None), ("cp1252", "cp1252")]
)
def test_texts_of_every_usual_encoding(tmp_path: Path, mark: str, encoding: str | None) -> None:
    """UTF-8 and what has a mark are known; others are named."""
    path = tmp_path / "a.txt"
    path.write_bytes("Größe der Schmierstelle prüfen".encode(mark))
    assert read_manual(path, encoding=encoding).passages[0].text == "Größe der Schmierstelle prüfen"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "eins\nGrö".encode("cp1252"), "line 2: it is not utf-8 text; name its --encoding"),
        ("a.txt", b"one\n\x00\x01", "line 2: it is no text but a binary file"),
        ("a.txt", b" \n\n", "there is no text in it"),
        ("a.csv", b"Date,Text\n2026-01-01,a,b\n", "line 2: 3 cells, and the heading row has 2"),
        ("a.csv", b"only one\n", "begins with a row of headings"),
        ("a.csv", b'Date,Text\n2026-01-01,"open\n', "line "),
        ("a.docx", b"PK", "only .txt, .md"),
    ],
)
def test_what_cannot_be_imported_says_why(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """The text names the file, the line, and what to do."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadManual) as error:
        [read_manual(one) for one, _ in files_below(path)[0]]
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)


def test_a_log_is_cut_by_its_rows(tmp_path: Path) -> None:
    """Each row is a passage with its line, cells with their headings, and the equipment that it names."""
    path = tmp_path / "log.csv"
    path.write_text(
        'Date;Equipment;Work;Hours\n2026-03-01;P-101;"Bearing changed,\nnew grease";3\n\n2026-03-02;;Filter cleaned;\n',
        encoding="utf-8",
    )
    read = read_manual(path)
    assert read.kind == "log"
    assert [(one.line, one.equipment, one.text) for one in read.passages] == [
        (2, "P-101", "Date: 2026-03-01; Equipment: P-101; Work: Bearing changed, new grease; Hours: 3"),
        (5, "", "Date: 2026-03-02; Work: Filter cleaned"),
    ]
    assert read_manual(path, equipment_column="work").passages[1].equipment == "Filter cleaned"
    with pytest.raises(BadManual, match="there is no column 'Anlage'; there are Date, Equipment, Work, Hours"):
        read_manual(path, equipment_column="Anlage")


def test_a_log_as_text_is_cut_by_its_dates(tmp_path: Path) -> None:
    """An entry reaches to the next date; without dates each line is one."""
    path = tmp_path / "shift.log"
    path.write_text("Log book\n2026-03-01 P101 loud\n  greased, better\n02.03.2026 P102 stopped\n", encoding="utf-8")
    assert [(one.line, one.text) for one in read_manual(path).passages] == [
        (1, "Log book"),
        (2, "2026-03-01 P101 loud greased, better"),
        (4, "02.03.2026 P102 stopped"),
    ]
    path.write_text("P101 loud\nP102 stopped\n", encoding="utf-8")
    assert [one.line for one in read_manual(path).passages] == [1, 2]


def test_a_folder_gives_files_with_their_names(tmp_path: Path) -> None:
    """Relative names, in order; hidden files and links are passed over, others are told."""
    (tmp_path / "P101").mkdir()
    for name in ("P101/manual.txt", "b.md", ".hidden.txt", "drawing.dwg"):
        (tmp_path / name).write_text("text", encoding="utf-8")
    (tmp_path / "link.txt").symlink_to(tmp_path / "b.md")
    found, left = files_below(tmp_path)
    assert [name for _, name in found] == ["b.md", "P101/manual.txt"]
    assert left == ["drawing.dwg"]
    with pytest.raises(BadManual, match="there is no such file or folder"):
        files_below(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadManual, match="no file that can be imported"):
        files_below(tmp_path / "empty")


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, pages, passages and files are bounded, and each bound is told."""
    path = write_pdf(tmp_path / "a.pdf", PAGES)
    for name, module, value, said in (
        ("MAX_PAGES", "broker.manuals.pdf", 1, "it has 2 pages; 1 are allowed"),
        ("MAX_OF_FILE", "broker.manuals.reading", 1, "it makes 2 passages; 1 are allowed"),
        ("MAX_PDF_BYTES", "broker.manuals.reading", 10, "0 MiB are allowed"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.{name}", value)
            with pytest.raises(BadManual, match=said):
                read_manual(path)
    monkeypatch.setattr(reading, "MAX_FILES", 1)
    (tmp_path / "b.txt").write_text("text", encoding="utf-8")
    with pytest.raises(BadManual, match="more than 1 files"):
        files_below(tmp_path)


@given(st.text(max_size=3000))
def test_no_text_makes_a_passage_that_is_too_long(text: str) -> None:
    """Whatever stands in a file: passages are bounded, visible, and one line."""
    for one in passages(paragraphs(text.splitlines())):
        assert 1 <= len(one.text) <= MAX_PASSAGE
        assert one.text.isprintable()


@given(st.text(alphabet="ab .", max_size=2000))
def test_cutting_loses_no_word(text: str) -> None:
    """The pieces together are the text."""
    assert "".join("".join(cut(text)).split()) == "".join(text.split())
