"""Packaging of tfpqn.

`export/` and `training/` stand beside `tfpqn/` in the checkout and install as `tfpqn.export` and
`tfpqn.training`. The package list is spelled out so that nothing else can slip into the wheel.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
FOLDER_OF = {"tfpqn": "tfpqn", "tfpqn.export": "export", "tfpqn.training": "training"}

TEST = ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100"]
FAISS = ["faiss-cpu>=1.8"]  # tfpqn.export.to_faiss and from_faiss
REPORT = ["matplotlib>=3.8"]  # tfpqn report
BENCHMARK = [*FAISS, *REPORT]  # benchmarks/ and research/
BEAM = ["apache-beam>=2.77"]  # tfpqn encode
VIDEO = ["av>=14"]  # whose frames carry the matrix that turns them upright
HUB = ["keras-hub>=0.32; python_version >= '3.11'"]  # pretrained backbones
# Not among what a developer needs: it may bring gigabytes.
TORCH = ["torch>=2.3"]
BROWSER = ["playwright>=1.50"]  # the tests of the search page, with Debian's chromium
DEPLOY = ["check-jsonschema>=0.29", "kubernetes-validate>=1.31", "pyyaml>=6"]
# The site. Their newest versions ask for Python 3.11.
DOCS = [
    "mkdocs-material>=9.7,<10; python_version >= '3.11'",
    "mkdocstrings[python]>=1; python_version >= '3.11'",
]
DEVELOP = [
    "ruff>=0.9",
    "mypy>=1.14",
    "import-linter>=2.17; python_version >= '3.11'",
    "jax>=0.4.30",
    "build>=1.2",
]


def read_version():
    text = (HERE / "tfpqn" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE).group(1)


def read_readme():
    readme = HERE / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


def list_packages():
    inner = [
        f"{package}.{name}"
        for package, folder in FOLDER_OF.items()
        for name in find_packages(str(HERE / folder))
    ]
    return [*FOLDER_OF, *inner]


setup(
    name="tfpqn",
    version=read_version(),
    description="Compact-code visual search for Keras 3: train, index, and serve as one SavedModel",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir=FOLDER_OF,
    packages=list_packages(),
    package_data={
        "tfpqn": ["py.typed"],
        "tfpqn.export.loading": ["serving_ops.txt"],
        "tfpqn.export.page": ["*.html", "*.js", "*.css", "*.svg"],
    },
    install_requires=[
        "tensorflow>=2.19,<3",
        # Earlier ones can be made to run code, write elsewhere or take all memory by a `.keras`
        # file: CVE-2025-1550, -8747, -9905, -12058, -12060, CVE-2026-0897, -1462, -12570. The 3.12
        # series is the last for Python 3.10.
        "keras>=3.15,<4; python_version >= '3.11'",
        "keras>=3.12.4,<3.13; python_version < '3.11'",
        "tensorflow-datasets>=4.9.7",
        "importlib_resources",  # tensorflow-datasets imports it without declaring it
        "tensorflow-metadata>=1.13",  # or Python 3.10 ends up with 0.5, which tfds cannot use
        "tensorflow-serving-api>=2.19",
        # The local server and the client over REST.
        "grpcio-health-checking>=1.60",
        "httpx>=0.27",
        "starlette>=1.3.1",  # CVE-2025-54121, CVE-2025-62727, CVE-2026-48710
        "uvicorn>=0.30",
        "tensorboard>=2.19",  # tf.summary writes through it; tensorflow no longer brings it
        "numpy>=1.26",
        "pillow>=12.3",  # reads AVIF; CVE-2025-48379, CVE-2026-25990, -40192, -42309, -59199
        "pyarrow>=17",  # CVE-2024-52338
        "scikit-learn>=1.5",  # CVE-2024-5206
        "typer>=0.12",
        "rich>=13",
    ],
    extras_require={
        "test": TEST,
        "beam": BEAM,
        "report": REPORT,
        "benchmark": BENCHMARK,
        "faiss": FAISS,
        "video": VIDEO,
        "browser": BROWSER,
        "hub": HUB,
        "torch": TORCH,
        "docs": DOCS,
        "dev": [*TEST, *BEAM, *BENCHMARK, *VIDEO, *BROWSER, *DEPLOY, *DOCS, *DEVELOP],
    },
    entry_points={"console_scripts": ["tfpqn = tfpqn.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
