#include "job/stop_signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/timer.h"
#include "kernels/cpu/gemm.h"

namespace facet {
namespace {

Matrix view(std::vector<float>& values, int64_t rows, int64_t cols) {
  Matrix matrix;
  matrix.data = values.data();
  matrix.rows = rows;
  matrix.cols = matrix.stride = cols;
  return matrix;
}

// op(A) (m,k) times op(B) (k,n).
struct Product {
  Transpose transpose_a, transpose_b;
  int64_t m, n, k;
  std::vector<float> a, b, c, expected;

  Product(Transpose ta, Transpose tb, int64_t m_, int64_t n_, int64_t k_)
      : transpose_a(ta), transpose_b(tb), m(m_), n(n_), k(k_) {
    for (int64_t i = 0; i < m * k; ++i) a.push_back(static_cast<float>(i * 37 % 101) / 50 - 1);
    for (int64_t i = 0; i < k * n; ++i) b.push_back(static_cast<float>(i * 53 % 97) / 48 - 1);
    c.resize(static_cast<size_t>(m * n));
    expected = compute();
  }
  const std::vector<float>& compute() {
    const bool plain_a = transpose_a == Transpose::kNo, plain_b = transpose_b == Transpose::kNo;
    gemm(transpose_a, transpose_b, 1, view(a, plain_a ? m : k, plain_a ? k : m),
         view(b, plain_b ? k : n, plain_b ? n : k), 0, view(c, m, n));
    return c;
  }
  bool same_again() {
    compute();
    return std::memcmp(c.data(), expected.data(), c.size() * sizeof(float)) == 0;
  }
};

// What became of a child process: its exit code, or 128 and the signal's number.
int end_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

template <typename Body>
int end_of_child(const Body& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  return end_of(child);
}

TEST(StopSignals, FiveOfThemAskARunToStop) {
  for (const int number : {SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, SIGINT}) {
    const int code = end_of_child([&] {
      std::signal(number, SIG_DFL);  // nohup lets SIGHUP be ignored
      catch_stop_signals(OnSignal::kSaveAndStop);
      std::raise(number);
      const std::string name = std::string("SIG") + sigabbrev_np(number);
      return stop_signal() == name && signal_that_ends() == 0 ? 85 : 1;
    });
    EXPECT_EQ(code, 85) << number;
  }
}

TEST(StopSignals, WhereNothingIsSavedTheyEndTheProcess) {
  EXPECT_EQ(end_of_child([] {
              catch_stop_signals(OnSignal::kSaveAndStop);
              std::raise(SIGUSR2);
              set_meaning_of_stop_signals(OnSignal::kEndNow);
              return signal_that_ends();
            }),
            SIGUSR2);
}

TEST(StopSignals, AnotherSignalDoesNotHideSigterm) {
  EXPECT_EQ(end_of_child([] {
              catch_stop_signals(OnSignal::kSaveAndStop);
              std::raise(SIGTERM);
              std::raise(SIGUSR1);
              return sigterm_came() ? 85 : 1;
            }),
            85);
}

TEST(StopSignals, ASecondSigintEndsTheProcess) {
  EXPECT_EQ(end_of_child([] {
              catch_stop_signals(OnSignal::kSaveAndStop);
              std::raise(SIGINT);
              std::raise(SIGINT);
              return 1;
            }),
            128 + SIGINT);
}

TEST(StopSignals, AnIgnoredSighupStaysIgnored) {
  EXPECT_EQ(end_of_child([] {
              std::signal(SIGHUP, SIG_IGN);
              catch_stop_signals(OnSignal::kSaveAndStop);
              std::raise(SIGHUP);
              return stop_signal() == nullptr ? 0 : 1;
            }),
            0);
}

// Taken by a thread that computes, they would change its numbers or end the process.
TEST(StopSignals, DoNotTouchWhatIsComputed) {
  catch_stop_signals(OnSignal::kSaveAndStop);
  take_stop_signals_in_a_thread();
  std::vector<Product> products;
  for (const Transpose ta : {Transpose::kNo, Transpose::kYes})
    for (const Transpose tb : {Transpose::kNo, Transpose::kYes})
      for (const int64_t size : {7, 97, 257}) products.emplace_back(ta, tb, size, 120, 2 * size);
  std::atomic<bool> enough{false};
  std::thread storm([&] {
    while (!enough) {
      kill(getpid(), SIGUSR1);
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  bool all_same = true;
  const Timer timer;
  while (timer.seconds() < 1)
    for (Product& product : products) all_same = all_same && product.same_again();
  enough = true;
  storm.join();
  EXPECT_TRUE(all_same);
  EXPECT_STREQ(stop_signal(), "SIGUSR1");
}

}  // namespace
}  // namespace facet
