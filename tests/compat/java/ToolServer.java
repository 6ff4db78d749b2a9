// Runs the command-line tools of stock Kafka, unmodified, one after the other in one JVM, since
// starting a JVM for each of a hundred calls would take minutes of processor time.
//
// A request is a line: the tool's class, then each argument in base64, separated by spaces. The
// answer is a line: exit status, standard output and standard error, the latter two in base64.

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.concurrent.atomic.AtomicReference;

import org.apache.kafka.common.utils.Exit;
import org.slf4j.LoggerFactory;

public class ToolServer {
    /** Thrown where a tool would have ended the JVM. */
    static final class Ended extends Error {
    }

    public static void main(String[] ignored) throws Exception {
        PrintStream answers = System.out;
        PrintStream realErrors = System.err;
        // The log holds on to the stream of its first use, which must not be that of the first tool.
        LoggerFactory.getLogger(ToolServer.class);
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String request;
        while ((request = requests.readLine()) != null) {
            String[] words = request.split(" ");
            String[] arguments = new String[words.length - 1];
            for (int i = 0; i < arguments.length; i++) {
                arguments[i] = new String(Base64.getDecoder().decode(words[i + 1].substring(1)), StandardCharsets.UTF_8);
            }
            ByteArrayOutputStream output = new ByteArrayOutputStream();
            ByteArrayOutputStream errors = new ByteArrayOutputStream();
            System.setOut(new PrintStream(output, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(errors, true, StandardCharsets.UTF_8));
            System.setIn(new ByteArrayInputStream(new byte[0]));
            int status;
            try {
                status = run(words[0], arguments);
            } finally {
                System.out.flush();
                System.err.flush();
                System.setOut(answers);
                System.setErr(realErrors);
            }
            Base64.Encoder encoder = Base64.getEncoder();
            answers.println(status + " =" + encoder.encodeToString(output.toByteArray())
                    + " =" + encoder.encodeToString(errors.toByteArray()));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    static int run(String tool, String[] arguments) throws Exception {
        AtomicReference<Integer> first = new AtomicReference<>();
        Exit.Procedure end = (status, message) -> {
            if (first.compareAndSet(null, status)) {
                // What a tool prints on its way out through our exception it would not have printed.
                System.setOut(new PrintStream(OutputStream.nullOutputStream()));
                System.setErr(new PrintStream(OutputStream.nullOutputStream()));
            }
            throw new Ended();
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        Exit.setShutdownHookAdder((name, hook) -> { });
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException failure) {
            if (!(failure.getCause() instanceof Ended)) {
                failure.getCause().printStackTrace();
                first.compareAndSet(null, 1);
            }
        }
        return first.get() == null ? 0 : first.get();
    }
}
