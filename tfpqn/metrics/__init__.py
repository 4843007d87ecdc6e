"""Ranking metrics that handle ties, and the health of codebooks."""

from tfpqn.metrics.codebooks import CodebookPerplexity as CodebookPerplexity
from tfpqn.metrics.codebooks import CodebookUsage as CodebookUsage
from tfpqn.metrics.graded_ranking import GradedRanking as GradedRanking
from tfpqn.metrics.graded_ranking import ndcg as ndcg
from tfpqn.metrics.graded_ranking import rank_gains as rank_gains
from tfpqn.metrics.ranking import Ranking as Ranking
from tfpqn.metrics.ranking import average_precision as average_precision
from tfpqn.metrics.ranking import rank_items as rank_items
from tfpqn.metrics.ranking import recall_at_k as recall_at_k
