# SPDX-License-Identifier: BSL-1.0
# Passes when COMPILER refuses FILE, and says what the file expects it to say.
file(STRINGS ${FILE} expected REGEX "^// expect: ")
list(TRANSFORM expected REPLACE "^// expect: " "")
if(NOT expected)
    message(FATAL_ERROR "${FILE} has no line `// expect: <regular expression>`")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -E env LC_ALL=C ${COMPILER} -std=c++20 -fsyntax-only -I${INCLUDE} -I${PARTS} ${FILE}
                RESULT_VARIABLE result ERROR_VARIABLE said)
if(result EQUAL 0)
    message(FATAL_ERROR "${FILE} compiles")
elseif(NOT said MATCHES "${expected}")
    message(FATAL_ERROR "${FILE} is refused, but not with `${expected}`:\n${said}")
endif()
