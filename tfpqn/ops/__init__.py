"""The mathematics of product quantization as pure functions on `keras.ops`."""

from tfpqn.ops.assignment import assign_hard as assign_hard
from tfpqn.ops.assignment import assign_soft as assign_soft
from tfpqn.ops.assignment import rank_by_distance as rank_by_distance
from tfpqn.ops.assignment import reconstruct_soft as reconstruct_soft
from tfpqn.ops.beam_search import assign_beam as assign_beam
from tfpqn.ops.beam_search import assign_beam_by_products as assign_beam_by_products
from tfpqn.ops.beam_search import improve_in_turn as improve_in_turn
from tfpqn.ops.codes import code_dtype as code_dtype
from tfpqn.ops.codes import decode_codes as decode_codes
from tfpqn.ops.lookup import adc_scores as adc_scores
from tfpqn.ops.lookup import build_lookup_tables as build_lookup_tables
from tfpqn.ops.relevance import count_shared_labels as count_shared_labels
from tfpqn.ops.relevance import label_relevance as label_relevance
from tfpqn.ops.relevance import number_labels as number_labels
from tfpqn.ops.replicas import find_first_row as find_first_row
from tfpqn.ops.replicas import gather_rows as gather_rows
from tfpqn.ops.segments import average_segments as average_segments
from tfpqn.ops.segments import motion_images as motion_images
from tfpqn.ops.segments import segment_weights as segment_weights
from tfpqn.ops.subvectors import intra_normalize as intra_normalize
from tfpqn.ops.subvectors import merge_subvectors as merge_subvectors
from tfpqn.ops.subvectors import normalize_vectors as normalize_vectors
from tfpqn.ops.subvectors import split_subvectors as split_subvectors
