"""Coding a collection with Apache Beam: on one machine, or on many by Flink, Spark or Dataflow.

A job lies in a staging folder that all workers see. `prepare_job` writes down once which items are
coded, and by which network; `EncodeUnits` codes them, a Parquet part for each unit of some thousand
items; `finish_job` makes an index of the parts. Needs apache-beam: `pip install 'tfpqn[beam]'`.
"""

from tfpqn.beam.assembly import Summary as Summary
from tfpqn.beam.assembly import finish_job as finish_job
from tfpqn.beam.job import Job as Job
from tfpqn.beam.pipeline import EncodeUnits as EncodeUnits
from tfpqn.beam.pipeline import open_pipeline as open_pipeline
from tfpqn.beam.pipeline import run_pipeline as run_pipeline
from tfpqn.beam.planning import prepare_job as prepare_job
