"""Tables of verdicts and frames have a column a class, beside columns of their own."""

from __future__ import annotations

from fer_core.emotions import RESERVED
from fer_core.preprocess.frame_table import frame_table
from fer_core.scoring.tables import _verdict_schema
from fer_core.tracking.pyfunc import output_columns


def test_no_class_can_take_the_name_of_another_column():
    frames = [*frame_table(()).column_names, "share"]
    assert {*_verdict_schema(()).names, *frames, *output_columns(())} <= RESERVED
