# SPDX-License-Identifier: Apache-2.0
# cmake -DMODE=installed|embedded -DCHECKOUT=… -DBUILD=… -DWORK=… -DCOMPILER=… -P consume.cmake
# Configures, builds and runs the consumer as a project of its own.
function(run)
    execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK})
set(options -DCMAKE_CXX_COMPILER=${COMPILER} -G Ninja)
if(MODE STREQUAL "installed")
    run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
    list(APPEND options -DCMAKE_PREFIX_PATH=${WORK}/prefix)
else()
    list(APPEND options -DVTENSOR_CHECKOUT=${CHECKOUT})
endif()
run(${CMAKE_COMMAND} -S ${CHECKOUT}/tests/package/projects/${MODE} -B ${WORK}/build ${options})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer)
run(${WORK}/build/device_consumer)
