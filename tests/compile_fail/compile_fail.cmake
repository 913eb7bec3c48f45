# SPDX-License-Identifier: Apache-2.0
# Compiles one file twice: with RIGHT defined it must compile, without it must not, and the compiler's message
# must match every "// expect: REGEX" line of the file.
#
#   cmake -DSOURCE=… -DCOMMAND=compiler|flag|… -P compile_fail.cmake

string(REPLACE "|" ";" COMMAND "${COMMAND}")

file(STRINGS "${SOURCE}" expectations REGEX "^// expect: ")
if(NOT expectations)
    message(FATAL_ERROR "${SOURCE} does not say what it expects")
endif()

execute_process(COMMAND ${COMMAND} -DRIGHT "${SOURCE}" RESULT_VARIABLE failed OUTPUT_VARIABLE text ERROR_VARIABLE text)
if(failed)
    message(FATAL_ERROR "does not compile where it is right:\n${text}")
endif()

execute_process(COMMAND ${COMMAND} "${SOURCE}" RESULT_VARIABLE failed OUTPUT_VARIABLE text ERROR_VARIABLE text)
if(NOT failed)
    message(FATAL_ERROR "compiles, and should not")
endif()
foreach(expectation IN LISTS expectations)
    string(REPLACE "// expect: " "" expectation "${expectation}")
    if(NOT text MATCHES "${expectation}")
        message(FATAL_ERROR "the message does not match \"${expectation}\":\n${text}")
    endif()
endforeach()
