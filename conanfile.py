# SPDX-License-Identifier: Apache-2.0
import re

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import load


class Vtensor(ConanFile):
    name = "vtensor"
    description = "KV-cache tensors: contiguous in virtual memory, holding only the physical memory they need"
    license = "Apache-2.0"
    package_type = "header-library"
    settings = "os", "compiler", "build_type", "arch"
    exports_sources = "CMakeLists.txt", "cmake/*", "include/*", "backends/*", "LICENSE"
    no_copy_source = True

    def set_version(self):
        config = load(self, f"{self.recipe_folder}/include/vtensor/core/config.hpp")
        self.version = re.search(r'VTENSOR_VERSION "([^"]+)"', config).group(1)

    def requirements(self):
        self.requires("boost/[>=1.74]", headers=True, libs=False, transitive_headers=True)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        for part in ("TESTS", "EXAMPLES", "BENCH"):
            toolchain.cache_variables[f"VTENSOR_BUILD_{part}"] = False
        toolchain.generate()

    def package(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.install()

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", "vtensor")
        self.cpp_info.set_property("cmake_target_name", "vtensor::vtensor")
        self.cpp_info.requires = ["boost::headers"]
        self.cpp_info.system_libs = ["pthread"]
