"""What pyproject.toml cannot say: a wheel brings the workflow's files along, as avpipe/workflow_data/."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PATTERNS = ("Snakefile", "rules/*.smk", "workflow/scripts/*.py", "profiles/*/*", "envs/*", "config/**/*")


class BuildWithWorkflow(build_py):
    """Copies the files into what is built; an editable installation reads those of the checkout."""

    def run(self):
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            for source, target in self._workflow_files().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_source_files(self):
        """Of a source distribution, from which a wheel can be built too."""
        return [*super().get_source_files(), *self._workflow_files()]

    def get_outputs(self, include_bytecode=True):
        """What a build has made."""
        return [*super().get_outputs(include_bytecode), *self._workflow_files().values()]

    def _workflow_files(self):
        folder = Path(self.build_lib) / "avpipe" / "workflow_data"
        files = [path for pattern in PATTERNS for path in sorted(Path().glob(pattern)) if path.is_file()]
        return {str(path): str(folder / path) for path in files}


setup(cmdclass={"build_py": BuildWithWorkflow})
