# Where things lie: this workflow's own files, the settings, and the folders that it fills (docs/module.md).
import sys
from pathlib import Path

from snakemake.logging import logger
from snakemake.path_modifier import PathModifier
from snakemake.pathvars import Pathvars
from snakemake.sourcecache import LocalSourceFile

from avpipe.config.yaml_files import check_config_files
from avpipe.errors import AvpipeError
from avpipe.plan import places
from avpipe.settings import expand_home


def in_words(function, *arguments, **keywords):
    """Call a function; its error for the user ends Snakemake, which would wrap any exception in lines of its own."""
    try:
        return function(*arguments, **keywords)
    except AvpipeError as error:
        logger.error(str(error))
        sys.exit(1)


def placed(folder):
    """A folder as rules name it: below a module's prefix, and `~` expanded, of which Snakemake would make a folder."""
    return workflow.modifier.path_modifier.replace_prefix(f"{expand_home(folder)}/").removesuffix("/") or "/"


# Not workflow.basedir, which of a module is the importing workflow's; and through no link, lest paths differ by it.
# The rules of a module may come from a server: its other files are then those of the installed package.
BASE = (
    Path(workflow.current_basedir.path).parent.resolve()
    if isinstance(workflow.current_basedir, LocalSourceFile)
    else in_words(places.package_root)
)
# A module has the settings that it is given and reads no file.
IS_MODULE = not workflow.modifier.is_main_snakefile()
if not IS_MODULE:
    CONFIG_FILE = str(places.config_file(BASE))
    in_words(check_config_files, [CONFIG_FILE])

    configfile: CONFIG_FILE


# A module's prefix moves what the workflow makes. Snakemake itself would put it before every relative path of a rule, also
# before those of videos, weights and splits, and before none in params.
_FOLDERS = {name: workflow.pathvars.get(name) for name in ("results", "resources", "logs", "benchmarks")}
_PATHVARS = Pathvars.from_other(workflow.pathvars)
_PATHVARS.update(
    Pathvars.from_module({name: placed(value) for name, value in _FOLDERS.items() if not value.startswith("<")})
)
workflow.modifier.pathvars = _PATHVARS
workflow.modifier.path_modifier = PathModifier(None, None, workflow)
