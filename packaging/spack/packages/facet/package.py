"""Spack's recipe, of the tree that it lies in:

    spack repo add packaging/spack
    spack dev-build facet@main          # builds the tree as it is, in the current directory
    spack install facet@main +cuda      # builds what is committed on its branch main

Checked: it names a package for each library of scripts/install_deps.sh (tests/e2e/install.sh); by hand, with stand-ins for
Spack's own names, that it is valid and what it hands to make. No Spack has run it: names and variants of other packages
are those that Spack's own recipes have.
"""

import os

from spack.package import *

try:
    from spack_repo.builtin.build_systems.makefile import MakefilePackage  # Spack 1.0 and newer
except ImportError:
    pass  # older ones have it in spack.package


class Facet(MakefilePackage):
    """Trains vision-language chat models (CLIP, projection, LLaMA) on MPI ranks, on CPUs or GPUs."""

    tree = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 4))
    homepage = "file://" + os.path.join(tree, "docs", "README.md")
    git = "file://" + tree

    version("main", branch="main")

    variant("cuda", default=False, description="also train on GPUs: --device cuda")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("gmake", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi")  # libopenmpi-dev
    depends_on("hdf5 +mpi")  # libhdf5-openmpi-dev
    depends_on("boost +program_options")  # libboost-program-options-dev
    depends_on("onednn@2.6:")  # libdnnl-dev
    depends_on("sentencepiece")  # libsentencepiece-dev
    depends_on("pcre2@10.40: +unicode")  # libpcre2-dev
    depends_on("utf8proc")  # libutf8proc-dev
    depends_on("fmt")  # libfmt-dev
    depends_on("xxhash")  # libxxhash-dev
    depends_on("libjpeg-turbo")  # libjpeg-dev
    depends_on("libwebp +libwebpdemux")  # libwebp-dev
    depends_on("zlib-api")  # zlib1g-dev
    depends_on("libedit")  # libedit-dev
    depends_on("cuda@12:", when="+cuda")
    depends_on("nccl", when="+cuda")

    conflicts("%gcc@:11", msg="C++20 as GCC 12 has it is needed")

    @property
    def build_targets(self):
        return self.make_variables() + ["all", "build/make_tiny"]

    @property
    def install_targets(self):
        return self.make_variables() + ["install"]

    def make_variables(self):
        """The compiler wrappers of Spack add include, library and run paths; RPATH= leaves those to them."""
        spec = self.spec
        return [
            f"PREFIX={self.prefix}",
            f"CXX={spec['mpi'].mpicxx}",
            f"HDF5_CFLAGS=-I{spec['hdf5'].prefix.include}",
            f"HDF5_LIBS={spec['hdf5'].libs.ld_flags}",
            "RPATH=",
            "ARCH=",
            "FACET_CUDA=" + ("auto" if spec.satisfies("+cuda") else "none"),
        ]
