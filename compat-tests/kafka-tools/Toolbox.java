import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Kafka's command line tools one after the other in one JVM, as `run.sh box` starts it: the start of a JVM costs more than a run.
 *
 * A line of standard input is one run, in words of hexadecimal UTF-8: the input of the tool, its class, its arguments. A line of standard output
 * answers it: the code that the tool ends with, what it wrote to standard output, and what to standard error.
 */
public final class Toolbox {
    /** In the place of the end of the process. */
    private static final class Ended extends Error {
        private static final long serialVersionUID = 1;
    }

    /** What the tool wanted to end with first: some catch what stops them. */
    private static Integer code;

    /** What the tool wants done at the end of the process: producers are closed then. */
    private static final List<Runnable> hooks = new ArrayList<>();

    private Toolbox() {}

    public static void main(String[] args) throws IOException {
        InputStream commands = System.in;
        PrintStream answers = System.out;
        Exit.Procedure end = (status, message) -> {
            if (code == null) code = status;
            // A process would be gone: what the tool writes about the error that ends it here was never to be seen.
            PrintStream nothing = new PrintStream(OutputStream.nullOutputStream());
            System.setOut(nothing);
            System.setErr(nothing);
            throw new Ended();
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        BufferedReader lines = new BufferedReader(new InputStreamReader(commands, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = Arrays.stream(line.split(" ", -1)).map(Toolbox::decoded).toArray(String[]::new);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            System.setIn(new ByteArrayInputStream(words[0].getBytes(StandardCharsets.UTF_8)));
            System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
            int status = run(words[1], Arrays.copyOfRange(words, 2, words.length));
            hooks.forEach(Runnable::run);
            hooks.clear();
            answers.println(status + " " + encoded(out) + " " + encoded(err));
            answers.flush();
        }
    }

    private static int run(String tool, String[] arguments) {
        code = null;
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException failed) {
            if (!(failed.getCause() instanceof Ended)) {
                failed.getCause().printStackTrace();
                if (code == null) code = 1;
            }
        } catch (ReflectiveOperationException missing) {
            missing.printStackTrace();
            code = 127;
        }
        return code == null ? 0 : code;
    }

    private static String decoded(String word) {
        return new String(HexFormat.of().parseHex(word), StandardCharsets.UTF_8);
    }

    private static String encoded(ByteArrayOutputStream bytes) {
        return HexFormat.of().formatHex(bytes.toByteArray());
    }
}
