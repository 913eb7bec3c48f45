// SPDX-License-Identifier: Apache-2.0
//
// A shared library opened at run time, and the outcome of taking a driver's entries from it.
#pragma once

#include <vtensor/core/error.hpp>

#include <string>

#include <dlfcn.h>

namespace vtensor::detail {

/// A library that stays loaded until the process ends: a GPU driver does not survive being unloaded.
class shared_library {
  public:
    /// Opens the file of that name. Where it cannot be opened the handle is empty and `why()` says why.
    explicit shared_library(const char* name) {
        handle_ = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (handle_ == nullptr) {
            const char* const said = ::dlerror();
            why_ = said != nullptr ? said : "the dynamic linker gives no reason";
        }
    }

    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }
    [[nodiscard]] const std::string& why() const noexcept { return why_; }

    /// The symbol as a function, or null where the library has none of that name.
    template <class Function>
    void find(Function*& function, const char* name) const noexcept {
        function = reinterpret_cast<Function*>(::dlsym(handle_, name));
    }

  private:
    void* handle_ = nullptr;
    std::string why_;
};

} // namespace vtensor::detail

namespace vtensor {

/// What loading a driver gave: a table that can be used, or why there is none.
template <class Driver>
struct loaded_driver {
    Driver driver{};
    std::string library; ///< the file that was loaded, empty where none was
    error failure{};     ///< `errc::no_device` with the driver's own code (0 where none), or `errc::ok`
    std::string reason;  ///< one sentence for a person; empty where the table can be used

    [[nodiscard]] explicit operator bool() const noexcept { return failure.code == errc::ok; }
};

} // namespace vtensor
