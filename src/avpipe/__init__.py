"""avpipe: raw videos to audio-visual research results in one incremental Snakemake DAG."""

__version__ = "0.1.0"
