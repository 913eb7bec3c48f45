// SPDX-License-Identifier: Apache-2.0
#include "check_file.hpp"

#include "checks.hpp"

#include <ostream>

namespace oracle {

bool check_file(const std::string& path, std::ostream& out) {
    try {
        const oracle_file file{path};
        findings found;
        if (file.has_parameter("evictions"))
            check_lazy(file, found);
        else
            check_prefill(file, found);
        out << path << (found.agree() ? ": agrees\n" : ": DIFFERS\n");
        found.print(out);
        for (const std::string& name : file.unread())
            out << "  not checked: " << name << '\n';
        return found.agree();
    } catch (const bad_file& refused) {
        out << path << ": refused, it " << refused.what() << '\n';
        return false;
    }
}

} // namespace oracle
