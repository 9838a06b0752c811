"""Videos from YouTube and other sites, through yt-dlp (the extra `avpipe[youtube]`)."""
