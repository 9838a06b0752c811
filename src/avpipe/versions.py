"""One version per stage: the part of a stage's code that Snakemake's provenance can see.

Those of the extractors stand in their entries of `avpipe.registry`.

Snakemake does not notice an edited library module. Every rule therefore passes its stage's constant as a param;
raising the number re-runs that stage and all below it. Golden tests fail when a stage's output changes
without a new number.
"""

MAKE_DEMO = "make_demo/1"
FETCH_FILES = "fetch_files/1"
FETCH_VIDEOS = "fetch_videos/1"
SUM_UP_VIDEOS = "sum_up_videos/1"
INDEX = "index_source/2"
CHECK_WEIGHTS = "check_weights/2"
PROBE = "probe_clips/3"
ACCOUNT = "account_clips/2"
TRIM = "trim_clips/3"
CONVERT_FPS = "convert_fps/3"
WORD_VECTORS = "word_vectors/2"
GZSL_TREE = "gzsl_tree/3"
GZSL_TRAIN = "gzsl_train/3"
GZSL_EVALUATE = "gzsl_evaluate/4"
WRITE_EVAL = "write_eval/5"
GZSL_TABLE = "gzsl_table/2"
MAKE_RETRIEVAL_DEMO = "make_retrieval_demo/1"
PACK = "pack/2"
CAPTION_WORDS = "caption_words/2"
RETRIEVAL_TRAIN = "retrieval_train/2"
RETRIEVAL_EVALUATE = "retrieval_evaluate/3"
RETRIEVAL_INDEX = "retrieval_index/2"
WRITE_RETRIEVAL_EVAL = "write_retrieval_eval/4"
